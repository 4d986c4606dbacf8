"""What is asked of trained networks: tests of heads, landscapes, interventions, the demo.

assessment     does a head do its job? three tests on held-out data
interventions  what is done to a network, its data or its training
condition      one way of training, told apart by what it changes
conditions     the same seeds under several conditions
contrasts      what a condition changed, in pairs over seeds
landscape      learning coefficients of a folder's checkpoints
stages         steps of a long job, each kept on disk when it is done
demo           simulate, train, analyse and report, in one command
"""
