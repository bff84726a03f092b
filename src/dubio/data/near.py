"""Groups of repeated and nearly repeated short texts, so that each group can be kept in one split.

Texts are normalised (case, URLs, @mentions, digits, punctuation, a leading RT); equal keys are one group at once. Among
distinct keys, the sets of character 4-grams S are compared by Jaccard |S∩T| / |S∪T| ≥ 0.7; candidates come from MinHash
(Broder 1997): 32 bands of 4 minima find a pair of similarity 0.7 with probability 1 − (1 − 0.7⁴)³² = 0.9998.

Texts that share an instruction or another template are no repeats of one another. Half of the table, or a group that
holds a twentieth of its texts, is of a template where there are 20 texts of it at least and the 4-grams that they share
are half of a text or more: these are set aside, digits and punctuation count, and what is left is grouped anew.

Cost: in proportion to the number of characters (`benchmarks/grouping.py`); 2.2 CPU seconds for 38,158 tweets.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from dubio.arrays import Bool, Int64
from dubio.errors import DubioError

SIMILAR = 0.7
TEMPLATE_TEXTS, TEMPLATE_SHARE = 20, 0.05  # so many texts of a table, and such a share, are of one template
_SHINGLE, _BANDS, _ROWS = 4, 32, 4
_NEIGHBOURS = 32  # in one bucket each text meets so many followers: bounds the pairs of a text copied a thousandfold
_CHUNK = 1 << 22  # shingles hashed at a time
_UNLIKE = 0.5  # share of equal minima below which no pair of similarity 0.7 is: five standard deviations of 128 draws
_LINKS = re.compile(r"https?:\S*|www\.\S+|@\w+|&\w+;|\brt\b")
_JUNK = re.compile(rf"{_LINKS.pattern}|[\W\d_]+")
UInt64 = NDArray[np.uint64]


def near_key(text: str) -> str:
    """The text as near repeats are compared: letters only, lower case; the bare text where nothing is left."""
    return " ".join(_JUNK.sub(" ", text.lower()).split()) or _bare(text)


def near_duplicate_groups(texts: Sequence[str], seed: int = 0) -> Int64:
    """Group ids `[N]`, 0, 1, … in order of first appearance; rows of one group are linked by similarity ≥ 0.7."""
    texts = [*texts]
    keys, of_row = _distinct([near_key(text) for text in texts])
    if not keys:
        return of_row
    sets, generator = _shingles(keys), np.random.default_rng(seed)
    whole, of_whole = _distinct([_bare(text) for text in texts])
    group, least = np.arange(len(texts)), _least(len(whole))
    mostly = _mostly_alike(sets, _distinct_in(of_row, of_whole))[of_row]
    of_template = np.unique(of_whole[mostly])
    if len(of_template) < max(TEMPLATE_TEXTS, len(whole) / 2):
        mostly[:] = False
    else:
        inner = _without_common(_shingles([whole[i] for i in of_template]))
        group[mostly] = _apart(inner, least, generator)[np.searchsorted(of_template, of_whole[mostly])]
    others = np.flatnonzero(~mostly)
    if len(others):
        group[others] = (
            group.max() + 1 + _ordinary([texts[int(i)] for i in others], sets, of_row[others], least, generator)
        )
    return _numbered(group)


def _ordinary(
    texts: Sequence[str], sets: csr_array, of_row: Int64, least: int, generator: np.random.Generator
) -> Int64:
    """`[N]` groups of texts with keys `sets[of_row]`: of one template, but for links and mentions, by what is left."""
    own, inverse = np.unique(of_row, return_inverse=True)
    group = _linked(csr_array(sets[own]), generator)[inverse]
    plain, of_plain = _distinct([" ".join(_LINKS.sub(" ", text.lower()).split()) or _bare(text) for text in texts])
    for number in np.flatnonzero(_distinct_in(group, of_plain) >= least):
        rows = np.flatnonzero(group == number)
        if _is_template(csr_array(sets[np.unique(of_row[rows])])):
            here, place = np.unique(of_plain[rows], return_inverse=True)
            inner = _without_common(_shingles([plain[i] for i in here]))
            group[rows] = group.max() + 1 + _apart(inner, least, generator)[place]
    return group


def grouped_split(groups: Int64, sizes: Sequence[int], seed: int = 0) -> Int64:
    """Split numbers `[N]`, −1 where left over: whole groups, in random order, each to the first split with room.

    Raises DubioError where the groups cannot fill the sizes exactly.
    """
    ids, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    room, of_group = list(sizes), np.full(len(ids), -1, dtype=np.int64)
    for group in np.random.default_rng(seed).permutation(len(ids)):
        target = next((split for split, left in enumerate(room) if left >= counts[group]), None)
        if target is not None:
            of_group[group] = target
            room[target] -= int(counts[group])
    if any(room):
        raise DubioError(
            f"{len(groups)} rows in {len(ids)} groups cannot fill splits of {list(sizes)} rows; ask for fewer"
        )
    return of_group[inverse]


def _bare(text: str) -> str:
    return " ".join(text.lower().split())


def _distinct(texts: Sequence[str]) -> tuple[list[str], Int64]:
    """(distinct texts in order of first appearance, `[N]` which of them each is)."""
    found: dict[str, int] = {}
    of_row = np.fromiter((found.setdefault(text, len(found)) for text in texts), np.int64, len(texts))
    return list(found), of_row


def _numbered(group: Int64) -> Int64:
    """The groups as 0, 1, … in order of first appearance."""
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def _distinct_in(group: Int64, of_text: Int64) -> Int64:
    """`[G]` how many distinct texts each group has, for groups 0..G-1 `[N]` and numbers of texts `[N]`."""
    return np.bincount(np.unique(np.stack([group, of_text]), axis=1)[0])


def _mostly_alike(sets: csr_array, texts: Int64) -> Bool:
    """`[K]` keys that hold the 4-grams of half of the table, nearly all of them, and little else.

    texts: `[K]` how many of the table's texts have each key.
    """
    sizes = _sizes(sets)
    weight = np.bincount(sets.indices, weights=np.repeat(texts, sizes), minlength=_width(sets))
    held = 2 * weight >= texts.sum()
    inside = np.add.reduceat(held[sets.indices].astype(np.int64), sets.indptr[:-1])
    return (inside >= 0.95 * held.sum()) & (2 * inside >= sizes)


def _sizes(sets: csr_array) -> Int64:
    """`[K]` how many 4-grams each text holds."""
    return np.diff(np.asarray(sets.indptr, dtype=np.int64))


def _width(sets: csr_array) -> int:
    return int(sets.indices.max()) + 1 if len(sets.indices) else 0


def _least(texts: int) -> int:
    return max(TEMPLATE_TEXTS, int(np.ceil(TEMPLATE_SHARE * texts)))


def _common(sets: csr_array) -> Bool:
    """`[V]` which 4-grams all texts hold."""
    return np.bincount(sets.indices) == len(_sizes(sets))


def _is_template(sets: csr_array) -> bool:
    """Whether what all texts hold is half of a text, in the median, or more."""
    return bool(2 * _common(sets).sum() >= np.median(_sizes(sets)))


def _without_common(sets: csr_array) -> csr_array:
    return csr_array(sets[:, np.flatnonzero(~_common(sets))])


def _apart(sets: csr_array, least: int, generator: np.random.Generator) -> Int64:
    """`[K]` groups of texts by what their template left of them; where a group is one of a template again, anew."""
    group = _linked(sets, generator)
    for number in np.flatnonzero(np.bincount(group) >= least):
        rows = np.flatnonzero(group == number)
        inner = csr_array(sets[rows])
        if _is_template(inner):
            group[rows] = group.max() + 1 + _apart(_without_common(inner), least, generator)
    return group


def _shingles(keys: Sequence[str]) -> csr_array:
    """Binary `[K, V]` matrix of which text holds which 4-gram; its indices are sorted and without repeats."""
    padded = [key.ljust(_SHINGLE) for key in keys]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    windows = np.zeros(len(codes) - _SHINGLE + 1, dtype=np.uint64)
    for offset in range(_SHINGLE):  # a polynomial modulo 2⁶⁴ of the code points: 4-grams do not meet by chance
        windows = windows * np.uint64(0x9E3779B97F4A7C15) + codes[offset : offset + len(windows)]
    starts = np.cumsum(lengths) - lengths
    inside = np.ones(len(windows) + _SHINGLE - 1, dtype=np.bool_)
    for end in range(1, _SHINGLE):  # a window that begins with the last characters of a text reaches into the next
        inside[starts + lengths - end] = False
    columns, width = _numbers(windows[inside[: len(windows)]])
    indptr = np.append(0, np.cumsum(lengths - _SHINGLE + 1))
    matrix = csr_array((np.ones(len(columns), dtype=np.int32), columns, indptr), (len(keys), width))
    matrix.sum_duplicates()
    matrix.data[:] = 1  # repeats within a text were summed: a set counts each once
    return matrix


def _numbers(values: UInt64) -> tuple[NDArray[np.int32], int]:
    """(`[N]` the rank of each value among the distinct ones, how many these are); by a hash table, in linear time."""
    encoded = pa.Array.from_buffers(pa.uint64(), len(values), [None, pa.py_buffer(values)]).dictionary_encode()
    distinct = np.frombuffer(encoded.dictionary.buffers()[1], np.uint64)
    rank = np.empty(len(distinct), np.int32)
    rank[np.argsort(distinct)] = np.arange(len(distinct), dtype=np.int32)
    return rank[np.frombuffer(encoded.indices.buffers()[1], np.int32)], len(distinct)


def _linked(sets: csr_array, generator: np.random.Generator) -> Int64:
    """`[K]` components of texts linked by similarity; a text of which nothing is left is its own."""
    component = np.arange(len(_sizes(sets)), dtype=np.int64)
    filled = np.flatnonzero(_sizes(sets))
    if len(filled):
        component[filled] = filled[_components(csr_array(sets[filled]), generator)]
    return _numbered(component)


def _components(sets: csr_array, generator: np.random.Generator) -> Int64:
    """`[K]` the number of a text of the same component: pairs that share a band's minima, where similar, are linked.

    Pairs that are linked already are not compared: texts of one template cost a comparison each, not one a pair.
    """
    bands, sketch = _bands(sets, generator)
    component = np.arange(len(_sizes(sets)), dtype=np.int64)
    for bucket in bands:
        order = np.argsort(bucket, kind="stable")
        for steps in (range(1, 2), range(2, _NEIGHBOURS + 1)):
            found: list[Int64] = []
            for step in steps:
                together = np.flatnonzero(bucket[order[step:]] == bucket[order[:-step]])
                if len(together) == 0:
                    break
                pair = np.stack([order[together], order[together + step]])
                found.append(pair[:, component[pair[0]] != component[pair[1]]])
            if not found:
                break
            left, right = np.concatenate(found, axis=1)
            similar = _similar(sets, sketch, left, right)
            component = _merged(component, left[similar], right[similar])
    return component


def _merged(component: Int64, left: Int64, right: Int64) -> Int64:
    if len(left) == 0:
        return component
    links = coo_array((np.ones(len(left), dtype=np.int8), (component[left], component[right])), (len(component),) * 2)
    return connected_components(links.tocsr(), directed=False)[1].astype(np.int64)[component]


def _bands(sets: csr_array, generator: np.random.Generator) -> tuple[UInt64, NDArray[np.uint8]]:
    """(`[32, K]` a hash of each band's minima, `[K, 128]` the last byte of each minimum)."""
    count, minima = len(_sizes(sets)), _minima(sets, generator)
    bands, sketch = np.zeros((_BANDS, count), np.uint64), np.empty((count, _BANDS * _ROWS), np.uint8)
    for band in range(_BANDS):
        for row in range(_ROWS):
            least = next(minima)
            sketch[:, band * _ROWS + row] = least & np.uint64(0xFF)
            bands[band] = (bands[band] ^ least) * np.uint64(0x9E3779B97F4A7C15)
            bands[band] ^= bands[band] >> np.uint64(29)
    return bands, sketch


def _minima(sets: csr_array, generator: np.random.Generator) -> Iterator[UInt64]:
    """One `[K]` MinHash after another: the least image of each text's 4-grams under a random permutation."""
    width = _width(sets)
    for _ in range(_BANDS * _ROWS):
        images = generator.permutation(width).astype(np.uint32)
        yield np.minimum.reduceat(images[sets.indices], sets.indptr[:-1]).astype(np.uint64)


def _similar(sets: csr_array, sketch: NDArray[np.uint8], left: Int64, right: Int64) -> Bool:
    """Whether each pair is similar: by the exact Jaccard where the sketches do not rule it out."""
    sizes = _sizes(sets)
    out = np.zeros(len(left), dtype=np.bool_)
    step = max(1, _CHUNK // max(_BANDS * _ROWS, int(sizes.max())))
    for start in range(0, len(left), step):
        a, b = left[start : start + step], right[start : start + step]
        maybe = np.flatnonzero((sketch[a] == sketch[b]).mean(axis=1) >= _UNLIKE)
        a, b = a[maybe], b[maybe]
        shared = np.asarray(sets[a].multiply(sets[b]).sum(axis=1)).ravel()
        out[start + maybe] = shared / (sizes[a] + sizes[b] - shared) >= SIMILAR
    return out
