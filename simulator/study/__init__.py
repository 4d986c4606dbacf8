"""The study of the three claims: collision heads emerge, along a power law, with degeneracy.

What lives here: `reproduce`, from training the arms to the report. What does not: training (`runs`)
and the statistics (`emergence_stats`), which the study only puts together.
"""

from simulator.study.plan import STUDIES, StudyPlan, study
from simulator.study.run import reproduce

__all__ = ["STUDIES", "StudyPlan", "reproduce", "study"]
