"""The local learning coefficient over many checkpoints, parts and runs.

What lives here: finding checkpoints and reading them (`checkpoints`, `state_files`), the estimates
wherever they run (`workers`), the store they are kept in (`store`), and `sweep_llc`, which joins
them (`sweep`). What does not: one estimate (`llc`, `temperature`).
"""
