"""kNN against scikit-learn's NearestNeighbors."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize as sklearn_normalize

from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.scores.density import gaussian, knn
from dubio.scores.density.knn import KNN


def rows_of(n, d=6, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    return Representations.of(rng.normal(size=(n, d)) + offset, rng.normal(size=(n, 2)))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("k", [1, 7, 50])
def test_equals_nearest_neighbours(monkeypatch, normalize, k):
    monkeypatch.setattr(gaussian, "BLOCK", 32)  # several blocks, some shorter than k
    monkeypatch.setattr(knn, "QUERIES", 10)
    train, test = rows_of(150), rows_of(33, seed=1)
    z, t = train.features.astype(np.float64), test.features.astype(np.float64)
    if normalize:
        z, t = sklearn_normalize(z), sklearn_normalize(t)
    expected = NearestNeighbors(n_neighbors=k).fit(z).kneighbors(t)[0][:, -1]
    method = KNN.with_options({"k": k, "normalize": normalize}).fit(train)
    np.testing.assert_allclose(method.score(test), expected, rtol=1e-5, atol=1e-7)


def test_k_is_capped_at_the_training_rows():
    method = KNN.with_options({"k": 50}).fit(rows_of(8))
    assert method.facts_["k"] == 8
    z, t = rows_of(8).features.astype(np.float64), rows_of(5, seed=1).features.astype(np.float64)
    farthest = [max(np.linalg.norm(a - b) for b in z) for a in t]
    np.testing.assert_allclose(method.score(rows_of(5, seed=1)), farthest, rtol=1e-6)


def test_a_training_row_is_at_distance_zero_from_itself_far_from_the_origin():
    train = rows_of(50, offset=1000.0)
    assert KNN.with_options({"k": 1}).fit(train).score(train).max() < 1e-6


def test_labels_are_not_needed_but_the_train_split_is():
    assert np.isfinite(KNN().fit(rows_of(20)).score(rows_of(5))).all()
    with pytest.raises(DubioError, match="KNN needs the train split"):
        KNN().fit(None)
