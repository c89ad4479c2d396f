"""The training loop and what it needs: steps, judgement, telemetry, money, the run directory."""
