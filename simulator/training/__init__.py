"""Training runs: what determines them, the loop, and the folder they leave.

config       everything that determines a run, and its presets
checkpoints  a run's networks on disk
loop         one seed, from where it stands to its last step
workers      processes that each train one run after another
runs         `train`: every seed of a configuration into one folder
"""
