"""Groupwise learning: one oracle per group, and on every group nearly as good as that group's own.

After Acharya, Arunachaleswaran, Kannan, Roth, Ziani, *Oracle Efficient Algorithms for Groupwise Regret* (2023,
arXiv 2310.04652). Groups are declared, may overlap, and may be born at any time. Per event with features x and the
groups it is in (awake), then its label y:

    every awake group's oracle predicts z, held within the declared range
    a meta-algorithm gives the awake groups' experts weights p                           (see `metas`)
    what is played is sum p z, or one z drawn with p
    after y: every awake expert's R += r, C += |r|, r = loss played - loss of z, by the prediction as it was made
    every awake oracle learns (x, y)

Nothing else moves: groups asleep keep their state. An expert is (group, model): each group with its own model, or
also with everyone's, or with the model of every group awake beside it (`experts`). The guarantee is to each expert
of each group, on that group's events alone, in any order of the stream; it is not "better than a single model on
every group" unless the single model is among the experts: use "pairs" or "own+everyone" where rare groups matter.

Oracles: ridge in recursive form, theta += P x (y - x theta) / (1 + x P x), P -= P x (P x)' / (1 + x P x), where P
is I / lam at first; VAW predicts x theta / (1 + x P x) from the same state; logistic, softmax and linear quantiles
by AdaGrad; or river models. Memory per group and d columns: 8 (d^2 + d + 3) bytes for ridge and VAW, 16 per pair
of groups with "pairs", and a constant.

>>> model = GroupwiseRegressor(range=(0.0, 100.0), groups=["smoker=*", "age<30"], experts="pairs")
>>> for i in range(80):
...     age = 20 + 17 * i % 41
...     for smoker in ("yes", "no"):
...         steps = model.steps()
...         row = steps.row({"age": float(age), "smoker": smoker})
...         steps.predict(row)
...         steps.observe(row)
...         steps.learn(row, 10.0 + age / 10 + (40.0 if smoker == "yes" else 0.0), 0)
...         _ = steps.execute()
>>> value, why = model.peek({"age": 25.0, "smoker": "yes"})
>>> round(float(value[0])), [name for name, weight, predicted in why]
(52, ['everyone', 'smoker=yes', 'age<30'])
"""

from streamd.learners.groupwise.choose import GroupwiseChooser
from streamd.learners.groupwise.classify import GroupwiseClassifier
from streamd.learners.groupwise.regress import GroupwiseRegressor

__all__ = ["GroupwiseChooser", "GroupwiseClassifier", "GroupwiseRegressor"]
