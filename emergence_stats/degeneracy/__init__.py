"""How degenerate is the loss landscape at a checkpoint?

What lives here: the localised tempered posterior (`posterior`), the kernels that sample it
(`samplers`), how their step size and localisation are chosen (`tuning`), what chains say and
whether to believe it (`judgement`), the functions that join them (`llc`, `temperature`), the same
over many checkpoints (`sweep`), and the Hessian's spectrum (`curvature`). What does not: closed
forms, which are in `emergence_stats.theory`.
"""
