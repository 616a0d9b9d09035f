"""Pictures are made once, each by a decoder that may die, and are kept in a cache."""

import asyncio
import os
import signal

import pytest

from derived.conftest import Running, Store, pids_of
from in_process import IMAGES
from pictures import picture
from stillroom.features.pictures import images
from stillroom.features.pictures.decoders import Decoders
from stillroom.features.pictures.derivation import Derivation
from waiting import eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize(  # decoders are the same for both
        "backend", ["disk", pytest.param("bucket", marks=pytest.mark.whole)], indirect=True
    ),
]


async def test_a_picture_is_made_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.save("a.png", picture(size=(300, 200)))
    first = await store.get("a.png", "width=64")
    monkeypatch.setattr(Decoders, "derive", None)

    second = await store.get("a.png", "width=64")

    assert second.content == first.content
    assert second.headers == first.headers


async def test_one_decoding_does_for_all_who_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Derivation] = []
    derive = Decoders.derive

    async def counted(self: Decoders, file: int, wanted: Derivation) -> bytes:
        made.append(wanted)
        return await derive(self, file, wanted)

    monkeypatch.setattr(Decoders, "derive", counted)
    await store.save("a.png", picture(size=(1000, 1000)))
    answers = await asyncio.gather(*(store.get("a.png", "width=512") for _ in range(40)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(made) == 1


async def test_whoever_gives_up_leaves_the_others_their_picture(store: Store) -> None:
    await store.save("a.png", picture(size=(1000, 1000)))
    first = asyncio.ensure_future(store.get("a.png", "width=512"))
    await eventually(lambda: pids_of(store.derived._decoders))
    second = asyncio.ensure_future(store.get("a.png", "width=512"))
    await asyncio.sleep(0)  # one turn of the event loop
    first.cancel()

    assert (await second).status_code == 200


async def test_no_path_leads_to_the_cache_and_no_listing_shows_it(store: Store) -> None:
    await store.save("a.png", picture())
    await store.get("a.png", "width=64")

    (kept,) = store.kept()
    assert (await store.client.get(IMAGES)).json() == ["a.png"]
    inside = f".stillroom/derived/{kept.parent.name}/{kept.name}"
    for path in (inside, f"..%2f{inside.replace('/', '%2f')}"):
        assert (await store.get(path)).status_code in (404, 422)


async def test_without_room_for_a_cache_pictures_are_made_all_the_same(running: Running) -> None:
    async with running(STILLROOM_DERIVED_CACHE_BYTES="0") as store:
        await store.save("a.png", picture())
        for _ in range(2):
            assert (await store.get("a.png", "width=64")).status_code == 200
        assert store.kept() == []


async def test_a_cache_that_cannot_be_written_costs_no_answer(store: Store) -> None:
    (store.data / ".stillroom").mkdir(exist_ok=True)
    (store.data / ".stillroom/derived").write_text("in the way")
    await store.save("a.png", picture())

    for _ in range(2):
        assert (await store.get("a.png", "width=64")).status_code == 200


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGKILL, 503), (signal.SIGSEGV, 415), (signal.SIGXCPU, 415)],
)
async def test_a_decoder_that_dies_takes_one_answer_with_it(
    running: Running, number: signal.Signals, status: int
) -> None:
    async with running(STILLROOM_DERIVED_PROCESSES="1") as store:
        await store.save("warm.png", picture(1))
        await store.save("a.png", picture(2))
        await store.save("b.png", picture(3))
        await store.get("warm.png", "width=64")
        (decoder,) = pids_of(store.derived._decoders)
        os.kill(decoder, signal.SIGSTOP)
        both = [asyncio.ensure_future(store.get(path, "width=64")) for path in ("a.png", "b.png")]
        await eventually(lambda: store.derived._decoders._busy)
        os.kill(decoder, number)
        os.kill(decoder, signal.SIGCONT)

        answers = await asyncio.gather(*both)  # which of them came first is nobody's business
        assert sorted(answer.status_code for answer in answers) == [200, status]
        for answer in answers:
            assert answer.headers.get("retry-after") == ("5" if answer.status_code == 503 else None)
        assert decoder not in pids_of(store.derived._decoders)


async def test_an_original_that_was_refused_is_refused_in_every_size(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save("a.png", picture(size=(300, 300))[:-5000])
    assert (await store.get("a.png", "width=64")).status_code == 415
    with monkeypatch.context() as patched:
        patched.setattr(Decoders, "derive", None)
        for query in ("width=128", "format=jpeg", "quality=10&width=64"):
            assert (await store.get("a.png", query)).status_code == 415

    await store.save("a.png", picture())
    assert (await store.get("a.png", "width=64")).status_code == 200


async def test_an_original_that_killed_its_decoder_is_not_decoded_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(STILLROOM_DERIVED_PROCESSES="1") as store:
        await store.save("warm.png", picture(1))
        await store.save("a.png", picture(2))
        await store.get("warm.png", "width=64")
        (decoder,) = pids_of(store.derived._decoders)
        os.kill(decoder, signal.SIGSTOP)
        sizes = [
            asyncio.ensure_future(store.get("a.png", f"width={width}")) for width in (64, 128, 256)
        ]
        await eventually(lambda: store.derived._decoders._busy)
        os.kill(decoder, signal.SIGXCPU)
        os.kill(decoder, signal.SIGCONT)

        assert {answer.status_code for answer in await asyncio.gather(*sizes)} == {415}
        monkeypatch.setattr(Decoders, "derive", None)
        assert (await store.get("a.png", "width=512")).status_code == 415


async def stopped_decoder(store: Store) -> int:
    """Of one that is idle, beside a large `a.png` and a small `b.png`."""
    await store.save("warm.png", picture(1))
    await store.save("a.png", picture(2, size=(600, 600)))
    await store.save("b.png", picture(3))
    await store.get("warm.png", "width=64")
    (decoder,) = pids_of(store.derived._decoders)
    os.kill(decoder, signal.SIGSTOP)
    return decoder


async def test_one_original_never_keeps_two_decoders_busy(store: Store) -> None:
    decoder = await stopped_decoder(store)
    sizes = [
        asyncio.ensure_future(store.get("a.png", f"width={width}")) for width in (64, 128, 256, 512)
    ]
    await eventually(lambda: store.derived._decoders._busy)

    for width in (64, 128, 256, 512):
        assert (await store.get("b.png", f"width={width}")).status_code == 200

    assert not any(answer.done() for answer in sizes)
    os.kill(decoder, signal.SIGCONT)
    assert {answer.status_code for answer in await asyncio.gather(*sizes)} == {200}


async def test_one_original_takes_a_part_of_all_that_may_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_MAX_FLIGHTS_OF_ONE", 2)
    decoder = await stopped_decoder(store)
    two = [asyncio.ensure_future(store.get("a.png", f"width={width}")) for width in (64, 128)]
    # Both wait, and the stopped decoder is taken: else `b.png` could be given to it.
    await eventually(lambda: len(store.derived._flights) == 2 and store.derived._decoders._busy)

    third, other = await store.get("a.png", "width=256"), await store.get("b.png", "width=64")

    os.kill(decoder, signal.SIGCONT)
    assert (third.status_code, other.status_code) == (503, 200)
    assert {answer.status_code for answer in await asyncio.gather(*two)} == {200}
    assert (await store.get("a.png", "width=256")).status_code == 200


async def test_a_decoder_that_died_unasked_is_replaced(store: Store) -> None:
    await store.save("a.png", picture())
    await store.get("a.png", "width=64")
    (decoder,) = pids_of(store.derived._decoders)
    os.kill(decoder, signal.SIGKILL)
    os.waitid(os.P_PID, decoder, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222  (at once)

    assert (await store.get("a.png", "width=64&quality=10")).status_code == 200
    assert decoder not in pids_of(store.derived._decoders)
