"""SoftMoE: a top-k that can be differentiated."""
