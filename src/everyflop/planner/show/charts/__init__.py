"""Pictures of a plan as inline SVG, drawn by small functions of our own: planning needs no plotting library."""
