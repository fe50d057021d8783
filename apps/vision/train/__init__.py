"""Training: recipes, data and what a run leaves behind. Lightning has the loops.

Only ``flask train`` and tests import what is in here; importing ``recipes`` does not import torch.
"""
