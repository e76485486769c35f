from streamd.learners.groupwise.classify import GroupwiseClassifier
from streamd.learners.groupwise.regress import GroupwiseRegressor

__all__ = ["GroupwiseClassifier", "GroupwiseRegressor"]
