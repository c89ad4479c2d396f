"""Bailing MoE V1 and V2 (Ling) once more: slow, literal, float64 numpy, one token and one head at a time.

Written from the published description of the vendor's code, without anything of everyflop. `config` is a config.json,
`tensors` are float64 arrays by their Hugging Face names.
"""

import math

import numpy as np


def forward(config, tensors, ids, *, head_norm=None):
    """Run one sequence.

    Returns logits (S, V), MTP logits (S, V) or None, and by MoE layer the set of experts that each token chose.
    """
    chosen = {}
    embed = tensors["model.word_embeddings.weight"]
    h = np.stack([embed[i] for i in ids])
    n_layers = config["num_hidden_layers"]
    for layer in range(n_layers):
        dense = layer < config.get("first_k_dense_replace", 0)
        h = block(config, tensors, f"model.layers.{layer}", h, dense, chosen)
    h = rms(h, tensors["model.norm.weight"], config["rms_norm_eps"])
    head = output_matrix(config, tensors, head_norm)
    mtp_logits = None
    if config.get("num_nextn_predict_layers", 0):
        name = f"model.layers.{n_layers}"
        following = np.stack([embed[i] for i in [*ids[1:], 0]])
        both = np.concatenate(
            [
                rms(following, tensors[f"{name}.enorm.weight"], config["rms_norm_eps"]),
                rms(h, tensors[f"{name}.hnorm.weight"], config["rms_norm_eps"]),
            ],
            axis=-1,
        )
        m = block(config, tensors, name, both @ tensors[f"{name}.eh_proj.weight"].T, False, chosen)
        m = rms(m, tensors[f"{name}.final_layernorm.weight"], config["rms_norm_eps"])
        mtp_logits = m @ head.T
    return h @ head.T, mtp_logits, chosen


def loss(config, tensors, batch, *, head_norm=None):
    """Mean cross entropy over B (S - 1) tokens, plus the weighted MTP loss over B (S - 2)."""
    ce, mtp = [], []
    for ids in batch:
        logits, mtp_logits, _ = forward(config, tensors, ids, head_norm=head_norm)
        ce += [-log_softmax(logits[t])[ids[t + 1]] for t in range(len(ids) - 1)]
        if mtp_logits is not None:
            mtp += [-log_softmax(mtp_logits[t])[ids[t + 2]] for t in range(len(ids) - 2)]
    total = float(np.mean(ce))
    return total + config.get("mtp_loss_scaling_factor", 0) * float(np.mean(mtp)) if mtp else total


def norm_of_head(tensors):
    """The norms that NormHead divides by; the gradient treats them as constants."""
    w = tensors["lm_head.weight"]
    return np.array([math.sqrt(sum(w[v, j] ** 2 for v in range(len(w)))) + 1e-7 for j in range(w.shape[1])])


def output_matrix(config, tensors, head_norm):
    if config["tie_word_embeddings"]:
        return tensors["model.word_embeddings.weight"]
    head = tensors["lm_head.weight"]
    if config.get("norm_head"):
        head = head / (norm_of_head(tensors) if head_norm is None else head_norm)
    return head


def block(config, tensors, name, h, dense, chosen):
    eps = config["rms_norm_eps"]
    h = h + attention(config, tensors, f"{name}.attention", rms(h, tensors[f"{name}.input_layernorm.weight"], eps))
    x = rms(h, tensors[f"{name}.post_attention_layernorm.weight"], eps)
    return h + (swiglu(tensors, f"{name}.mlp", x) if dense else moe(config, tensors, f"{name}.mlp", x, chosen))


def attention(config, tensors, name, x):
    n_q, n_kv = config["num_attention_heads"], config["num_key_value_heads"]
    d = config.get("head_dim") or config["hidden_size"] // n_q
    packed = x @ tensors[f"{name}.query_key_value.weight"].T + tensors.get(f"{name}.query_key_value.bias", 0.0)
    heads = [packed[:, i * d : (i + 1) * d] for i in range(n_q + 2 * n_kv)]
    queries, keys, values = heads[:n_q], heads[n_q : n_q + n_kv], heads[n_q + n_kv :]
    if f"{name}.query_layernorm.weight" in tensors:
        eps = config["rms_norm_eps"]
        queries = [rms(q, tensors[f"{name}.query_layernorm.weight"], eps) for q in queries]
        keys = [rms(k, tensors[f"{name}.key_layernorm.weight"], eps) for k in keys]
    queries, keys = [rotate(config, q, d) for q in queries], [rotate(config, k, d) for k in keys]
    mixed = np.zeros((len(x), n_q * d))
    for j in range(n_q):
        g = j // (n_q // n_kv)
        for t in range(len(x)):
            scores = np.array([queries[j][t] @ keys[g][u] / math.sqrt(d) for u in range(t + 1)])
            weights = np.exp(log_softmax(scores))
            mixed[t, j * d : (j + 1) * d] = sum(weights[u] * values[g][u] for u in range(t + 1))
    return mixed @ tensors[f"{name}.dense.weight"].T + tensors.get(f"{name}.dense.bias", 0.0)


def rotate(config, x, d):
    r = config["rotary_dim"] if "rotary_dim" in config else int(d * config.get("partial_rotary_factor", 1.0))
    frequencies, scale = rope_frequencies(config, r)
    out = x.copy()
    for t in range(len(x)):
        for i in range(r // 2):
            c, s = math.cos(t * frequencies[i]) * scale, math.sin(t * frequencies[i]) * scale
            a, b = x[t, i], x[t, i + r // 2]
            out[t, i], out[t, i + r // 2] = a * c - b * s, b * c + a * s
    return out


def rope_frequencies(config, r):
    theta = config["rope_theta"]
    plain = [theta ** (-2 * i / r) for i in range(r // 2)]
    scaling = config.get("rope_scaling")
    if scaling is None:
        return plain, 1.0
    factor, original = scaling["factor"], scaling["original_max_position_embeddings"]

    def correction(rotations):
        return r * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(correction(scaling.get("beta_fast", 32))), 0)
    high = min(math.ceil(correction(scaling.get("beta_slow", 1))), r - 1)
    frequencies = []
    for i, f in enumerate(plain):
        share = min(max((i - low) / ((high - low) or 0.001), 0.0), 1.0)
        frequencies.append(f / factor * share + f * (1 - share))
    return frequencies, 0.1 * math.log(factor) + 1


def moe(config, tensors, name, x, chosen):
    out = np.zeros_like(x)
    for t in range(len(x)):
        weights = route(config, tensors, name, x[t])
        chosen.setdefault(name, []).append(set(weights))
        for e, w in weights.items():
            out[t] += w * swiglu(tensors, f"{name}.experts.{e}", x[t])
        if config.get("num_shared_experts"):
            out[t] += swiglu(tensors, f"{name}.shared_experts", x[t])
    return out


def route(config, tensors, name, x):
    """Return {expert: weight} of one token."""
    k = config["num_experts_per_tok"]
    logits = tensors[f"{name}.gate.weight"] @ x
    if config["architectures"] == ["BailingMoeForCausalLM"]:
        p = np.exp(log_softmax(logits))
        best = sorted(range(len(p)), key=lambda e: -p[e])[:k]
        total = sum(p[e] for e in best) if config["norm_topk_prob"] and k > 1 else 1.0
        return {e: p[e] / total for e in best}
    s = 1 / (1 + np.exp(-logits))
    c = s + tensors[f"{name}.gate.expert_bias"]
    size = len(s) // config["n_group"]
    groups = [range(g * size, (g + 1) * size) for g in range(config["n_group"])]
    scores = [sum(sorted((c[e] for e in group), reverse=True)[:2]) for group in groups]
    kept = sorted(range(len(groups)), key=lambda g: -scores[g])[: config["topk_group"]]
    allowed = [e for g in kept for e in groups[g]]
    best = sorted(allowed, key=lambda e: -c[e])[:k]
    total = sum(s[e] for e in best) + 1e-20 if k > 1 else 1.0
    return {e: s[e] / total * config["routed_scaling_factor"] for e in best}


def swiglu(tensors, name, x):
    gate, up = x @ tensors[f"{name}.gate_proj.weight"].T, x @ tensors[f"{name}.up_proj.weight"].T
    return (gate / (1 + np.exp(-gate)) * up) @ tensors[f"{name}.down_proj.weight"].T


def rms(x, weight, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def log_softmax(x):
    x = x - x.max()
    return x - math.log(np.exp(x).sum())


def random_tensors(config, rng, *, std=0.3):
    """Return tensors of every name that the config calls for, none of them at a special value."""
    H, V = config["hidden_size"], config["vocab_size"]
    n_q, n_kv = config["num_attention_heads"], config["num_key_value_heads"]
    d = config.get("head_dim") or H // n_q
    v2 = config["architectures"] == ["BailingMoeV2ForCausalLM"]
    shapes = {"model.word_embeddings.weight": (V, H), "model.norm.weight": (H,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (V, H)
    n_layers, n_mtp = config["num_hidden_layers"], config.get("num_nextn_predict_layers", 0)
    for layer in range(n_layers + n_mtp):
        name = f"model.layers.{layer}"
        shapes |= {f"{name}.{norm}.weight": (H,) for norm in ("input_layernorm", "post_attention_layernorm")}
        shapes[f"{name}.attention.query_key_value.weight"] = ((n_q + 2 * n_kv) * d, H)
        shapes[f"{name}.attention.dense.weight"] = (H, n_q * d)
        if config["use_qkv_bias"]:
            shapes[f"{name}.attention.query_key_value.bias"] = ((n_q + 2 * n_kv) * d,)
        if config["use_bias"]:
            shapes[f"{name}.attention.dense.bias"] = (H,)
        if v2 and config["use_qk_norm"]:
            shapes |= {f"{name}.attention.{x}_layernorm.weight": (d,) for x in ("query", "key")}
        if layer >= n_layers:
            shapes |= {f"{name}.{norm}.weight": (H,) for norm in ("enorm", "hnorm", "final_layernorm")}
            shapes[f"{name}.eh_proj.weight"] = (H, 2 * H)
        if layer < config.get("first_k_dense_replace", 0):
            shapes |= swiglu_shapes(f"{name}.mlp", H, config["intermediate_size"])
            continue
        E, M = config["num_experts"], config["moe_intermediate_size"]
        shapes[f"{name}.mlp.gate.weight"] = (E, H)
        if v2:
            shapes[f"{name}.mlp.gate.expert_bias"] = (E,)
        for e in range(E):
            shapes |= swiglu_shapes(f"{name}.mlp.experts.{e}", H, M)
        if config.get("num_shared_experts"):
            shapes |= swiglu_shapes(f"{name}.mlp.shared_experts", H, M * config["num_shared_experts"])
    tensors = {name: rng.normal(0.0, std, shape) for name, shape in shapes.items()}
    for name in tensors:
        if name.endswith("norm.weight"):
            tensors[name] += 1.0
        if name.endswith("expert_bias"):
            tensors[name] -= 2.0  # all biased scores negative: a mask of 0 instead of -inf would choose masked experts
    return tensors


def swiglu_shapes(name, hidden, width):
    return {
        f"{name}.gate_proj.weight": (width, hidden),
        f"{name}.up_proj.weight": (width, hidden),
        f"{name}.down_proj.weight": (hidden, width),
    }
