"""Every kind of file a phone, recorder or browser writes: found by content, right in time."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from audio_files import FORMATS, amr, clicks, encode, onset

from audio_pipeline.audio.recording import RecordingReader, open_recording

TIMES = (0.4, 1.1)


def read(data: bytes, seconds: float = 10.0) -> tuple[np.ndarray, RecordingReader]:
    with open_recording(io.BytesIO(data)) as reader:
        return np.concatenate(list(reader.blocks(seconds))), reader


def click_times(samples: np.ndarray, rate: int) -> list[float]:
    """Onsets of the clicks of `TIMES`."""
    middle = round(0.75 * rate)
    return [onset(samples[:middle], rate), 0.75 + onset(samples[middle:], rate)]


@pytest.mark.parametrize("kind", FORMATS)
def test_sound_lies_where_it_lay(kind: str) -> None:
    form, rate = FORMATS[kind], 48000
    original = clicks(TIMES, 1.5, rate)
    samples, reader = read(encode(original, rate, kind), 0.37)
    assert reader.sample_rate == (form.rate or rate)
    assert click_times(samples, reader.sample_rate) == pytest.approx(TIMES, abs=form.clock)
    assert len(samples) / reader.sample_rate == pytest.approx(1.5, abs=0.1)
    assert not reader.truncated
    if form.lossless:
        np.testing.assert_allclose(samples, original, atol=2**-15)
        assert reader.duration in (None, pytest.approx(1.5))


@pytest.mark.parametrize("kind", FORMATS)
def test_stereo_has_two_channels_and_the_same_times(kind: str) -> None:
    rate = 44100
    sound = clicks(TIMES, 1.5, rate)
    samples, reader = read(encode(np.stack([sound, sound], axis=1), rate, kind))
    assert reader.channels == 2
    assert click_times(samples, reader.sample_rate) == pytest.approx(TIMES, abs=FORMATS[kind].clock)


@pytest.mark.parametrize("kind", ["m4a", "mp4", "mov", "3gp", "flac", "mp3", "wav", "aiff"])
def test_the_stated_duration_is_the_sound(kind: str) -> None:
    samples, reader = read(encode(clicks(TIMES, 1.5, 44100), 44100, kind))
    assert reader.duration == pytest.approx(1.5, abs=0.002)
    assert len(samples) / reader.sample_rate == pytest.approx(reader.duration, abs=0.002)


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"mpegts", "wma"}))
def test_a_clip_of_40_ms_is_read_whole(kind: str) -> None:
    samples, reader = read(encode(clicks((0.0,), 0.04, 48000), 48000, kind))
    # FFmpeg leaves out the last 2.7 ms of a Vorbis file of a single page.
    assert len(samples) / reader.sample_rate >= (0.037 if kind == "ogg-vorbis" else 0.0399)
    assert np.abs(samples).max() > 0.1


@pytest.mark.parametrize("layout", ["2.1", "quad", "5.1", "6.1", "7.1"])
@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("mp4", "flac"), ("ogg", "flac")])
def test_surround_sound_is_mixed(container: str, codec: str, layout: str) -> None:
    sound = clicks(TIMES, 1.5, 48000)
    channels = av.AudioLayout(layout).nb_channels
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=48000, layout=layout)
        packed = np.ascontiguousarray(np.repeat(sound, channels)[None])
        source = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        source.sample_rate, source.pts, source.time_base = 48000, 0, Fraction(1, 48000)
        size = stream.codec_context.frame_size
        shaper = av.AudioResampler(stream.codec_context.format, layout, 48000, frame_size=size)
        for frame in [*shaper.resample(source), *shaper.resample(None), None]:
            file.mux(stream.encode(frame))
    samples, reader = read(buffer.getvalue())
    assert reader.channels == channels
    assert len(samples) == 72000
    assert onset(samples, 48000, 0.1) == pytest.approx(0.4, abs=0.01)


def test_amr_is_read() -> None:
    samples, reader = read(amr())
    assert (reader.sample_rate, reader.channels) == (8000, 1)
    assert onset(samples, 8000, 0.05) == pytest.approx(0.51, abs=0.015)


@pytest.mark.parametrize("tag", [b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)])
@pytest.mark.parametrize("kind", ["mp3", "flac", "aac"])
def test_a_tag_in_front_changes_nothing(kind: str, tag: bytes) -> None:
    data = encode(clicks(TIMES, 1.5, 48000), 48000, kind)
    np.testing.assert_array_equal(read(tag + data)[0], read(data)[0])


def test_a_flac_stream_of_unknown_length_is_whole() -> None:
    data = bytearray(encode(clicks(TIMES, 1.5, 48000), 48000, "flac"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    samples, reader = read(bytes(data))
    assert len(samples) == 72000
    assert not reader.truncated


def _parts(
    container: str,
    codec: str,
    options: dict[str, str] | None = None,
    *,
    pause: tuple[float, float] = (9.0, 0.0),
    picture: bool = False,
) -> bytes:
    """Encode `TIMES`; packets after `pause[0]` seconds are stamped `pause[1]` seconds later."""
    sound = clicks(TIMES, 1.5, 48000)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as file:
        stream = file.add_stream(codec, rate=48000, layout="mono")
        if picture:
            film = file.add_stream("mpeg4", rate=10, width=64, height=48, pix_fmt="yuv420p")
            still = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            for number in range(15):
                still.pts, still.time_base = number, Fraction(1, 10)
                file.mux(film.encode(still))
            file.mux(film.encode(None))
        source = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        source.sample_rate, source.pts, source.time_base = 48000, 0, Fraction(1, 48000)
        size = stream.codec_context.frame_size or 1024
        shaper = av.AudioResampler(stream.codec_context.format, "mono", 48000, frame_size=size)
        for frame in [*shaper.resample(source), *shaper.resample(None), None]:
            for packet in stream.encode(frame):
                if packet.pts * packet.time_base >= pause[0]:
                    late = round(pause[1] / packet.time_base)
                    packet.pts, packet.dts = packet.pts + late, packet.dts + late
                file.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["webm", "mp4", "mov", "matroska"])
def test_a_pause_of_the_recorder_is_silence_as_a_player_has_it(kind: str) -> None:
    codec = "libopus" if kind == "webm" else "aac"
    samples, reader = read(_parts(kind, codec, pause=(0.8, 0.5)))
    assert onset(samples, 48000) == pytest.approx(0.4, abs=0.01)
    assert onset(samples[48000:], 48000) + 1 == pytest.approx(1.6, abs=0.01)
    assert reader.truncated
    assert np.count_nonzero(samples == 0) > 0.45 * 48000


@pytest.mark.parametrize("kind", ["mp4", "mov", "matroska"])
def test_sound_that_starts_after_the_picture_keeps_its_time(kind: str) -> None:
    samples, reader = read(_parts(kind, "aac", pause=(-9.0, 0.4), picture=True))
    assert onset(samples, 48000) == pytest.approx(0.8, abs=0.01)
    assert not reader.truncated


@pytest.mark.parametrize("kind", ["webm", "matroska", "ogg"])
def test_without_a_picture_the_first_sample_is_the_start(kind: str) -> None:
    samples, reader = read(_parts(kind, "libopus", pause=(-9.0, 0.4)))
    assert onset(samples, 48000) == pytest.approx(0.4, abs=0.01)
    assert not reader.truncated


def test_a_broken_time_stamp_is_not_hours_of_silence() -> None:
    samples, _ = read(_parts("webm", "libopus", pause=(0.8, 100_000.0)))
    assert len(samples) / 48000 == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov+delay_moov"}),
        ("webm", "libopus", {"live": "1"}),
    ],
)
def test_what_a_browser_streams_has_no_length_in_its_header(
    container: str, codec: str, options: dict[str, str]
) -> None:
    data = _parts(container, codec, options)
    samples, reader = read(data)
    assert click_times(samples, 48000) == pytest.approx(TIMES, abs=0.01)
    assert not reader.truncated
    cut, _ = read(data[: len(data) * 7 // 10])
    np.testing.assert_allclose(cut[:24000], samples[:24000], atol=1e-6)
