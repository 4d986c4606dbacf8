"""What chains say of a learning coefficient, and whether to believe it.

What lives here: running chains as a plan asks (`runs`), a mean with an error from their traces
(`estimator`), the checks it has to pass (`verdicts`) and the sentences made of what they found
(`sentences`), what further chains tell (`fitting_step`, `refinements`, `localisation`,
`default`), the `outcome` of all that and the `results` users hold. What does not:
the chains themselves (`chains`) and the choice of their settings (`tuning`).
"""
