"""The proof that tiktoken may stand in: it holds for learned merges, and refuses lists on which the engines differ."""

from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.tokenizer import plain, proof

BYTES = [bytes([byte]) for byte in range(256)]
TEXTS = st.lists(st.text("ab", min_size=1, max_size=12), min_size=1, max_size=6)
ANY_MERGES = st.lists(st.sampled_from([b"a", b"b", b"ab", b"ba", b"aa", b"bb", b"aab", b"abb", b"bab"]), min_size=2, max_size=8)


def tiktoken_tokens(text, merges):
    from danlu.tokenizer.engines import Tiktoken

    ids = {token: number for number, token in enumerate(BYTES)}
    for left, right in merges:
        ids.setdefault(left + right, len(ids))
    names = {number: token for token, number in ids.items()}
    return [names[number] for number in Tiktoken(ids, r"[\s\S]+").encode(text).tolist()]


@settings(max_examples=80, deadline=None)
@given(TEXTS)
def test_merges_learned_from_text_are_proved_and_recovered_from_their_tokens(texts):
    merges = plain.train(texts, 10, r"[ab]+")
    assert proof.disagreement(merges) is None
    assert proof.recover_merges(left + right for left, right in merges) == merges


@settings(max_examples=150, deadline=None)
@given(ANY_MERGES, st.text("ab", max_size=10))
def test_where_the_proof_holds_the_engines_agree(parts, text):
    merges = list(dict.fromkeys(zip(parts[::2], parts[1::2], strict=False)))
    if proof.disagreement(merges) is None:
        assert tiktoken_tokens(text, merges) == plain.encode(text, merges, r"[\s\S]+")


def test_a_list_on_which_the_engines_differ_is_refused():
    merges = [(b"b", b"c"), (b"a", b"b"), (b"ab", b"c")]  # "abc" is reached as a + bc, the list wants ab + c
    assert plain.encode("abc", merges, "[a-c]+") == [b"a", b"bc"]
    assert tiktoken_tokens("abc", merges) == [b"abc"]
    assert "reached by another merge" in proof.disagreement(merges)


def test_one_token_of_two_ranks_is_refused_but_several_pairs_of_one_rank_are_not():
    assert "different rank" in proof.disagreement([(b"a", b"b"), (b"ab", b"b"), (b"b", b"b"), (b"a", b"bb")])
    assert proof.disagreement([(b"b", b"b"), (b"a", b"b"), (b"ab", b"b"), (b"a", b"bb")]) is None
