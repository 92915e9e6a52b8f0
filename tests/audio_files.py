"""Makes a sound file of every kind a phone, recorder or browser writes, for tests.

PyAV's own encoders are used, so no ffmpeg has to be installed. Samples go in as float32 of shape
(n,) or (n, channels).
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

CLOCK = 0.010
"""Seconds: how exact the time of an event must be in files that tell their codec's delay."""


@dataclass(frozen=True)
class Format:
    """How one kind of file is made.

    `container` and `codec` are FFmpeg's names; where `codec` is a libsndfile subtype, libsndfile
    writes it. `clock` is the largest error of an event's time in seconds.
    """

    container: str
    codec: str
    clock: float = CLOCK
    lossless: bool = False
    picture: bool = False
    rate: int | None = None

    @property
    def by_libsndfile(self) -> bool:
        return self.codec.isupper()


FORMATS: dict[str, Format] = {
    "wav": Format("WAV", "PCM_16", lossless=True),
    "wav-8-bit": Format("WAV", "PCM_U8"),
    "wav-24-bit": Format("WAV", "PCM_24", lossless=True),
    "wav-32-bit": Format("WAV", "PCM_32", lossless=True),
    "wav-float": Format("WAV", "FLOAT", lossless=True),
    "wav-double": Format("WAV", "DOUBLE", lossless=True),
    "wav-extensible": Format("WAVEX", "PCM_16", lossless=True),
    "wav-ulaw": Format("WAV", "ULAW"),
    "wav-adpcm": Format("WAV", "IMA_ADPCM"),
    "rf64": Format("RF64", "PCM_24", lossless=True),
    "w64": Format("W64", "PCM_24", lossless=True),
    "aiff": Format("AIFF", "PCM_16", lossless=True),
    "aiff-float": Format("AIFF", "FLOAT", lossless=True),
    "au": Format("AU", "PCM_16", lossless=True),
    "caf": Format("CAF", "PCM_16", lossless=True),
    "caf-alac": Format("CAF", "ALAC_16", lossless=True),
    "flac": Format("FLAC", "PCM_16", lossless=True),
    "flac-24-bit": Format("FLAC", "PCM_24", lossless=True),
    "ogg-flac": Format("ogg", "flac", lossless=True),
    "mp3": Format("mp3", "libmp3lame"),
    "mp3-libsndfile": Format("MP3", "MPEG_LAYER_III"),
    "ogg-vorbis": Format("OGG", "VORBIS"),
    "ogg-opus": Format("ogg", "libopus", rate=48000),
    "webm": Format("webm", "libopus", rate=48000),
    "webm-video": Format("webm", "libopus", rate=48000, picture=True),
    "mkv": Format("matroska", "aac"),
    "m4a": Format("ipod", "aac"),
    "m4a-alac": Format("ipod", "alac", lossless=True),
    "mp4": Format("mp4", "aac", picture=True),
    "mov": Format("mov", "aac", picture=True),
    "mov-pcm": Format("mov", "pcm_s16le", picture=True, lossless=True),
    "3gp": Format("3gp", "aac"),
    "aac": Format("adts", "aac", clock=0.030),
    "wma": Format("asf", "wmav2", clock=0.060),
    "mpegts": Format("mpegts", "aac", clock=0.030),
    "avi": Format("avi", "pcm_s16le", picture=True, lossless=True),
}


def encode(samples: np.ndarray, sample_rate: int, kind: str) -> bytes:
    """Return a file of one kind of `FORMATS` as bytes; Opus is made at 48 kHz whatever the rate."""
    form = FORMATS[kind]
    frames = np.atleast_2d(np.asarray(samples, np.float32).T).T
    buffer = io.BytesIO()
    if form.by_libsndfile:
        soundfile.write(buffer, frames, sample_rate, subtype=form.codec, format=form.container)
    else:
        _encode_media(buffer, frames, sample_rate, form)
    return buffer.getvalue()


def write(folder: Path, samples: np.ndarray, sample_rate: int, kind: str) -> Path:
    """Write `KIND.KIND` into a folder and return its path."""
    path = folder / f"{kind}.{kind.partition('-')[0]}"
    path.write_bytes(encode(samples, sample_rate, kind))
    return path


def _encode_media(buffer: io.BytesIO, frames: np.ndarray, sample_rate: int, form: Format) -> None:
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[frames.shape[1]]
    rate = form.rate or sample_rate
    with av.open(buffer, "w", format=form.container) as container:
        sound = container.add_stream(form.codec, rate=rate, layout=layout)
        if form.codec not in {"alac", "flac", "pcm_s16le"}:
            sound.bit_rate = 96000 * frames.shape[1]
        if form.picture:
            _add_picture(container, len(frames) / sample_rate)
        source = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(frames.T), format="fltp", layout=layout
        )
        source.sample_rate = sample_rate
        source.time_base = Fraction(1, sample_rate)
        source.pts = 0
        size = sound.codec_context.frame_size or 1024
        converter = av.AudioResampler(sound.codec_context.format, layout, rate, frame_size=size)
        for frame in [*converter.resample(source), *converter.resample(None)]:
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def _add_picture(container: av.container.OutputContainer, seconds: float) -> None:
    """Add a small grey film of 10 pictures a second."""
    codec = "libvpx" if "webm" in container.format.name else "mpeg4"
    film = container.add_stream(codec, rate=10, width=64, height=48, pix_fmt="yuv420p")
    picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
    for number in range(max(1, round(seconds * 10))):
        picture.pts = number
        picture.time_base = Fraction(1, 10)
        container.mux(film.encode(picture))
    container.mux(film.encode(None))


def film_without_sound() -> bytes:
    """Return an MP4 film that has no sound track."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        _add_picture(container, 0.5)
    return buffer.getvalue()


def clicks(
    times: tuple[float, ...] = (0.5,), seconds: float = 2.0, sample_rate: int = 48000, seed: int = 0
) -> np.ndarray:
    """Return faint noise with damped 1.5 kHz clicks that begin at the times, float32 (n,)."""
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal(round(seconds * sample_rate)) * 1e-3
    clock = np.arange(round(0.02 * sample_rate)) / sample_rate
    click = 0.5 * np.exp(-clock * 600) * np.cos(2 * np.pi * 1500 * clock)
    for time in times:
        start = round(time * sample_rate)
        part = samples[start : start + len(click)]
        part += click[: len(part)]
    return samples.astype(np.float32)


def onset(samples: np.ndarray, sample_rate: int, level: float = 0.2) -> float:
    """Return the time in seconds at which the samples first exceed a level."""
    return float(np.argmax(np.abs(samples) > level)) / sample_rate


def amr() -> bytes:
    """Return one second of AMR (narrow band, 4.75 kbit/s, 8 kHz) with a click at 0.5 s.

    Kept as bytes, made with PyAV 18: later ones can read AMR but no longer write it.
    """
    return base64.b85decode(
        "BOyUeQVIk%JWG0G;`y9_rbK82HW;*XR5*futZRRi1Y;=kHiH%!bG6RkTm&?P$`d{117LmnP}~G+DBHz$2Nn2q"
        "SJ+AfF&M{VTUm$htRSpv1Xxh>Gd-W;%gDkDd;~T_N3&GSvqYn3^{fOIXAHAC)Orj;crxMyHWoL9C*YI}k~D4T"
        "1T}$Vw_U(uWAQjpwgk^-<^waLiF-m}l*|Mb7_P-P)l|Z^ST)!LYJppYH>9KvSvW`t1U5XFXFHQ7&SWc8)&$QM"
        "x-%Wo)4fdPMaBd*JbcGDM<i6rALpP1HazUu7u<AESNDYg1fd>>BU=%7@-Z*rgal(HAc#|kD5{5R@RS5MiyiTK"
        "U$JbCMSi{nSSZx<M>C}42`Z1a1QtUS#a6@QU<(Eb_yl7-=Ydzw<d<MBsCoo&7*7Qo+Q)b#skA@@z_I`j;%W6?"
        "hy+%c1Yj>Js#lG4sYbK@It0MZE|+#i30<hm1~de~6bK4?jAy&qh3F&%7(A20S~B?QGK1jC1U5W%lNa@sCa$&5"
        "+62!i=Lb`$8RjCAN_+%1>ThaYECT<qGVxdh7MRTOUH6g~4)erP1T}%Iqc@23j&x9x<^(r9(Ke$7sB!Puda?xE"
        "XWB(s+A*fl+bXaGHz*rH6P9@H-U*=u1lS~v^;bT$!R8f!^aTGXGb2;pnaTEgyHEr(7$5;V5(fCB%=2yp&rBo8"
        "6M(o0O^gzV1XvdSHCsOibg$Zzlmz~mzb7=LIJUg$yjBFy7$W68oYR*;1D2=+HyGnHI?rpV8i(|P1QizRGaHkp"
        "M;9r%ngljBY-L-AW~!L1d*%c-nC~+;)ph;L2^|Im|LPL~7oHW#p^+9`1pk;m^9LXVpW=Y(b^"
    )
