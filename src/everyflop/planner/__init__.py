"""The planning side: predict a layout, search layouts, choose pools, say what was found. Never imports torch."""
