"""The style sheet of the HTML report: light, dark and paper, without anything from elsewhere.

The part colours c0 to c8 are Paul Tol's "muted" scheme, which stays apart with every colour vision; o0 to o8 is the
ink that is read on them. Dark mode lightens those that would vanish.
"""

_LIGHT = """
--paper:#fff;--card:#f5f6f8;--ink:#1b1f24;--soft:#5a6370;--rule:#dfe3e8;--best:#0b62b0;--bad:#b3400a;--tint:#e8f1fa;
--c0:#332288;--c1:#88ccee;--c2:#44aa99;--c3:#ddcc77;--c4:#cc6677;--c5:#117733;--c6:#aa4499;--c7:#999933;--c8:#882255;
--c9:#b9bec6;--o0:#fff;--o5:#fff;--o6:#fff;--o8:#fff;--dark-ink:#14171b;--dearer:#d1661a;--cheaper:#2a8f7d;
"""

_DARK = """
--paper:#14171b;--card:#1e2328;--ink:#e7eaee;--soft:#9fa9b5;--rule:#343b43;--best:#6db3f2;--bad:#f0935a;--tint:#17293b;
--c0:#7b74e0;--c5:#2f9e57;--c8:#c2508a;--c9:#7d8590;--o0:#fff;--o5:#14171b;--dearer:#e58a45;--cheaper:#4fb8a4;
"""

STYLE = f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media screen and (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
*{{box-sizing:border-box}}
body{{margin:0 auto;padding:2.5rem 1.25rem 4rem;max-width:61rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans","DejaVu Sans",sans-serif}}
h1{{font-size:1.75rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}}
h2{{font-size:1.2rem;margin:2.75rem 0 .6rem;padding-top:.9rem;border-top:1px solid var(--rule)}}
p{{margin:.5rem 0;max-width:48rem;overflow-wrap:anywhere}}
.soft,figcaption{{color:var(--soft);font-size:.875rem}}
.answer{{font-size:1.15rem;font-weight:600;max-width:none;margin:1.4rem 0;
border-left:4px solid var(--best);padding:.1rem 0 .1rem .9rem}}
.answer.bad{{border-color:var(--bad)}}
.tiles{{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.75rem;margin:1.25rem 0}}
.tile{{background:var(--card);border-radius:.5rem;padding:.8rem 1rem}}
.tile b{{display:block;font-size:1.45rem;line-height:1.4;font-variant-numeric:tabular-nums}}
.tile b small{{font-size:.875rem;font-weight:600}}
.tile span{{display:block;color:var(--soft);font-size:.8125rem}}
.wide{{overflow-x:auto;margin:.75rem 0}}
figure{{margin:1rem 0 0}}
figcaption{{max-width:52rem;margin-top:.35rem}}
table{{border-collapse:collapse;font-size:.8125rem;line-height:1.4;min-width:100%}}
th{{text-align:left;font-weight:600;color:var(--soft);vertical-align:bottom;border-bottom:1px solid var(--ink)}}
td{{vertical-align:top;border-bottom:1px solid var(--rule)}}
th,td{{padding:.4rem .7rem .4rem 0;font-variant-numeric:tabular-nums}}
th:first-child,td:first-child{{padding-left:.4rem}}
td.name{{overflow-wrap:anywhere;min-width:6rem;max-width:26rem}}
td small,th small{{display:block;color:var(--soft);font-size:.75rem;font-weight:400}}
.n{{text-align:right}}
td.n{{white-space:nowrap}}
th small{{white-space:nowrap}}
td.name:first-child{{min-width:8rem}}
tr.best td{{background:var(--tint);font-weight:600}}
.tag{{display:inline-block;border:1px solid var(--soft);border-radius:1rem;
padding:0 .5rem;font-size:.75rem;white-space:nowrap}}
.tag.prior{{border-style:dashed}}
.tag.measured{{background:var(--ink);border-color:var(--ink);color:var(--paper)}}
pre{{background:var(--card);border-radius:.5rem;padding:.8rem 1rem;margin:.5rem 0;
white-space:pre-wrap;overflow-wrap:anywhere}}
pre,code{{font:.8125rem/1.5 ui-monospace,"SF Mono",Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}}
li{{margin:.2rem 0;max-width:48rem;overflow-wrap:anywhere}}
ul{{padding-left:1.2rem}}
svg{{display:block;max-width:100%;min-width:40rem;height:auto;font-size:13px}}
svg text{{fill:var(--ink);font-variant-numeric:tabular-nums}}
svg .tick,svg .axis{{fill:var(--soft);font-size:12px}}
svg .out{{opacity:.55}}
svg text.best{{font-weight:600;fill:var(--best)}}
svg .inside{{font-size:11px;fill:var(--dark-ink)}}
svg line,svg path{{fill:none;stroke:var(--ink)}}
svg .grid{{stroke:var(--rule)}}
svg .whisker{{stroke:var(--soft);stroke-width:1.5}}
svg .mark{{fill:var(--ink);stroke:var(--paper);stroke-width:1.5}}
svg .ring{{fill:var(--paper);stroke:var(--ink);stroke-width:2}}
svg .whisker.best,svg .ring.best{{stroke:var(--best)}}
svg .mark.best{{fill:var(--best)}}
svg .front{{stroke:var(--best);stroke-width:2;opacity:.6}}
svg line.limit{{stroke:var(--bad);stroke-dasharray:5 4}}
svg text.limit{{fill:var(--bad);font-size:12px}}
svg .mark-limit{{stroke:var(--bad);stroke-width:3}}
svg .now{{stroke:var(--ink);stroke-width:1.5}}
svg rect{{stroke:var(--paper);stroke-width:1}}
svg .dearer{{fill:var(--dearer)}}
svg .cheaper{{fill:var(--cheaper)}}
{"".join(f"svg .c{n}{{fill:var(--c{n})}}" for n in range(10))}
{"".join(f"svg .o{n}{{fill:var(--o{n},var(--dark-ink))}}" for n in range(10))}
@page{{margin:14mm}}
@media print{{
body{{padding:0;max-width:none;font-size:10.5pt}}
figure,.tiles,tr{{break-inside:avoid}}
h2{{break-after:avoid}}
.wide{{overflow:visible}}
svg{{min-width:0}}
.tiles{{grid-template-columns:repeat(5,1fr)}}
.tile b{{font-size:13pt}}
table{{font-size:7.5pt}}
td small,th small,td code,.tag{{font-size:6.5pt}}
*{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
}}
"""
