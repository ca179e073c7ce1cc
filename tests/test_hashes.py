"""Hashes, mixing and ownership against numbers from elsewhere: ids on disk depend on them."""

from __future__ import annotations

import numpy as np
import pytest

from recis_core.mixing import GOLDEN, SLICES, mix64, owner_of, pair_hash, table_salt
from recis_core.ops.ids_hash import farm64, ids_hash, murmur64a

# Length, FarmHash Fingerprint64 (by PyPI's pyfarmhash 0.5.1, Google's C++) and MurmurHash64A with
# seed 0 (by libstdc++'s std::_Hash_bytes, which is that function) of `text(length)`.
GOLDEN_HASHES = [
    (0, 0x9AE16A3B2F90404F, 0x0000000000000000),
    (1, 0xB2928897EA01C208, 0x2C9CE7B6190F97A8),
    (2, 0x45CAD7C6F1DFCA10, 0x735709114445E117),
    (3, 0xDB43D8E6333D150B, 0x8B2FBDB6A238DB1D),
    (4, 0x1D415945284F74BA, 0x7663043F89006A68),
    (5, 0xE6A9081ED8DA8FC1, 0xD042E905828E2FF6),
    (7, 0x3337D4C481BF1B6B, 0xD2724FEF81998BF1),
    (8, 0x8F29A6B174A3B22A, 0x825675A769EDCE3B),
    (9, 0x326B64D31626B467, 0x33BA017F3AF241D1),
    (12, 0x39A2B0640540C71B, 0x4BDEEA46645710F5),
    (15, 0x9FB1E9FCE60DB923, 0x29A7BAC0E0C87861),
    (16, 0xFF9D95CF8CB84295, 0xFBB20A70ED51C9E7),
    (17, 0x2B76706C44E3FEBF, 0x008E3BF62AD931FE),
    (24, 0xBB2D0BF602AE9E17, 0xC33418C6C422E0D3),
    (31, 0xA0813853919798A7, 0x5BDD0A2319BEAFDE),
    (32, 0x0C25929388D86D80, 0x29F3DE7B4886CCC1),
    (33, 0xAFE85AF7B1941E88, 0x96DB58FB0A6BF1A6),
    (48, 0x7DF12FC4599749E4, 0x6DF610CE2F7764F4),
    (63, 0xDF375B271B178EAF, 0xB687A99F7DE9121E),
    (64, 0x49202C775874233A, 0xD1C837F23CD624FA),
    (65, 0xEB7998B21158594D, 0xCE622C5B15DDE2FF),
    (96, 0x4B73AB43E64D9281, 0x8A9FBC688950B659),
    (127, 0xF13F227D12B0B6AF, 0x59070B04743966A3),
    (128, 0xC083BC8FE15DC2AD, 0x664716772F0335B3),
    (129, 0xEF6C2B61F3344CE2, 0xFCA789106ADAEB5C),
    (191, 0x2748C1F980CCC436, 0x98E19C22C8C1D3E2),
    (192, 0x57DAE67B82BB58C2, 0x67D32378C099731E),
    (193, 0x6945672F43F51846, 0x22B95D736A705373),
    (200, 0x59F45DBAB162E3AE, 0x492504F2FDE8153C),
    (256, 0x7868537B447E2C3E, 0x185073BD890BDB97),
    (300, 0x3483B05914CEFD0C, 0x3B28B0A4B857C8C8),
    (1000, 0x514009AF1A18A85E, 0xE0ABCB1DD01A64F8),
]


def text(length: int) -> bytes:
    return bytes((i * 37 + length * 11 + 200) % 256 for i in range(length))


@pytest.mark.parametrize(("length", "farm", "murmur"), GOLDEN_HASHES)
def test_golden_hashes(length: int, farm: int, murmur: int) -> None:
    assert farm64(text(length)) == farm
    assert murmur64a(text(length)) == murmur


@pytest.mark.parametrize(
    ("string", "signed"),
    [
        # Google BigQuery's documentation of FARM_FINGERPRINT.
        (b"1footrue", -1541654101129638711),
        (b"2applefalse", 2794438866806483259),
        (b"3true", -4880158226897771312),
    ],
)
def test_published_fingerprints(string: bytes, signed: int) -> None:
    data, offsets = np.frombuffer(string, np.uint8), np.array([0, len(string)])
    assert ids_hash.reference(data, offsets, "farm").tolist() == [signed]


def test_mix64_is_splitmix64() -> None:
    """The first five outputs of SplitMix64 seeded 1234567, as published for other languages."""
    states = np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * np.uint64(GOLDEN)
    assert mix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_mix64_takes_signed_ids_by_their_bits() -> None:
    ids = np.array([-1, -(2**63), 2**63 - 1, 0])
    assert (mix64(ids) == mix64(ids.view(np.uint64))).all()
    assert mix64(ids)[3] == 0
    assert len(set(mix64(np.arange(-5000, 5000)).tolist())) == 10000


@pytest.mark.parametrize(
    ("name", "salt"),
    [
        # mix64 over FNV-1a of "", "a" and "foobar": 0xcbf29ce484222325, 0xaf63dc4c8601ec8c and
        # 0x85944171f73967e8 in its authors' test vectors; computed with Python integers.
        ("", -780787492076525413),
        ("a", 198367012849983736),
        ("foobar", 4633546387131234498),
    ],
)
def test_table_salt(name: str, salt: int) -> None:
    assert table_salt(name) == salt


def test_pair_hash_differs_by_table_and_takes_all_64_bits() -> None:
    ids = np.array([0, 5, 5 + 2**52, 5 - 2**63, -1, -2, 2**63 - 1, -(2**63)])
    salts = np.array([table_salt(f"table {t}") for t in range(50)])
    hashed = pair_hash(np.repeat(salts, len(ids)), np.tile(ids, len(salts)))
    assert len(set(hashed.tolist())) == len(salts) * len(ids)
    assert pair_hash(np.int64(0), ids).tolist() == mix64(ids).tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 5, 7, 8, 100, 1000, 65535, 65536])
def test_owners_share_the_slices_evenly(world: int) -> None:
    """Contiguous, complete, and the first 65,536 mod W ranks own one slice more."""
    owners = owner_of(np.arange(SLICES, dtype=np.uint64), world)
    assert owners[0] == 0
    assert owners[-1] == world - 1
    assert set(np.diff(owners).tolist()) <= {0, 1}
    small, more = divmod(SLICES, world)
    assert np.bincount(owners).tolist() == [small + 1] * more + [small] * (world - more)


def test_owners_look_at_the_low_16_bits_alone() -> None:
    rng = np.random.default_rng(0)
    high = rng.integers(0, 2**48, SLICES).astype(np.uint64) << np.uint64(16)
    low = np.arange(SLICES, dtype=np.uint64)
    assert (owner_of(high | low, 7) == owner_of(low, 7)).all()


@pytest.mark.parametrize("world", [3, 8, 100])
def test_owners_balance_ids(world: int) -> None:
    """Consecutive ids, and ids that differ in high bits only, spread like random ones."""
    salt = np.int64(table_salt("user"))
    n = 100_000
    for ids in (np.arange(n), np.arange(n) << 40, -np.arange(n), np.arange(n) * 65536):
        share = np.bincount(owner_of(pair_hash(salt, ids), world), minlength=world)
        # Six standard deviations of a binomial share, and one slice in 65,536 / world more or less.
        expected = n / world
        assert np.abs(share - expected).max() < 6 * expected**0.5 + expected * world / SLICES
