"""K-fold adapters: an ensemble in which each training row has one member that has not seen it.

    p(y | x)   = (1/K) sum_m softmax f_m(x)           a new row, by all members
    p(y | x_i) = softmax f_{fold(i)}(x_i)             a training row, by the member trained without fold(i)

A row's fold follows from its text alone, so that repeated texts share one and nothing need be stored. So every training
row has an honest error, at the cost of a single pass over the rows. They are errors of one member, and not of the mean.

Source: Parmanto et al. 1996 (cross-validation committees); out-of-fold errors as in CV+ (arXiv 1905.02928). Cost: K
trainings at once, each on a share 1 - 1/K of the rows, K adapters to keep, K passes a row.
"""

from typing import ClassVar

from dubio.posteriors.methods.ensemble import Ensemble


class KFold(Ensemble):
    """tensors: the members' parameters, `member|NAME` `[K, ...]`; member m has not seen fold m."""

    kind: ClassVar[str] = "kfold"
