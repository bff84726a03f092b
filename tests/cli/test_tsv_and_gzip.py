"""The commands read packed tables and write TSV, with the numbers that the plain CSV gets."""

import gzip

import pandas as pd

from tiny_classifier import dubio


def test_score_reads_a_packed_table_and_writes_tsv(cached, tmp_path):
    source, out = tmp_path / "new.csv.gz", tmp_path / "out.tsv"
    source.write_bytes(gzip.compress(cached.test.read_bytes()))
    done = dubio("score", cached.adapter, source, "--output", out, "--quiet")
    assert done.code == 0, done.err
    plain = dubio("score", cached.adapter, cached.test, "--output", tmp_path / "out.csv", "--quiet")
    assert plain.code == 0, plain.err
    frames = [pd.read_csv(path, sep=sep, dtype=str) for path, sep in ((out, "\t"), (tmp_path / "out.csv", ","))]
    pd.testing.assert_frame_equal(*frames)
