"""How degenerate is the loss landscape at a checkpoint?

What lives here: the localised tempered posterior (`posterior`), the kernels that sample it
(`samplers`), how their step size and localisation are chosen (`tuning`), the estimator from loss
traces to a number with an error (`estimator`), the function that joins them (`llc`) and what it
returns (`result`); the same over many checkpoints (`sweep`, and `checkpoints`, which reads them);
and the Hessian's spectrum (`curvature`). What does not: closed forms, which are in
`emergence_stats.theory`.
"""
