"""Recording a history for the tests of the analysis."""

N_SAMPLES = 60
