"""The shapes of requests, answers and errors, with examples for the API's documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from audio_pipeline.app.text import visible
from audio_pipeline.triage.messages import DEFAULT_LANGUAGE


class ApiError(Exception):
    """A request that cannot be served.

    ``status``: HTTP status, 400-599.
    ``code``: a word for programs, such as ``too_large``; stable within an API version.
    ``message``: one line for people: what, which value, what to do.
    ``headers``: extra response headers, such as ``Retry-After``.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = visible(" ".join(message.split()))
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """Return the error as ``{"error": message, "code": code}``."""
        return JSONResponse(
            {"error": self.message, "code": self.code},
            status_code=self.status,
            headers=self.headers,
        )


def busy(seconds: int) -> ApiError:
    """Return the answer to a request that found the queue full."""
    return ApiError(
        503,
        "busy",
        f"The server is busy with other recordings. Try again in {seconds} seconds.",
        {"Retry-After": str(seconds)},
    )


def refuse_body(status: int, code: str, message: str) -> ApiError:
    """Return an error that also ends the connection: the rest of the body is not wanted."""
    return ApiError(status, code, message, {"Connection": "close"})


Level = Literal["self_care", "routine", "soon", "same_day", "emergency"]

ANSWERS_EXAMPLE: dict[str, Any] = {
    "saddle_numbness": "no",
    "bladder_bowel": "no",
    "both_legs": "no",
    "leg_weakness": "no",
    "trauma": "none",
    "chest_or_abdomen": "no",
    "pain": "brief",
    "severity": 2,
    "age": 34,
}


class Strict(BaseModel):
    """A request body: an unknown key is an error, not a guess."""

    model_config = ConfigDict(extra="forbid")


class SoundInput(Strict):
    """What a recording held, as in the ``finding`` of an analysis."""

    finding: str = Field(max_length=100, examples=["single_pop", "grating"])
    confidence: float | None = Field(default=None, ge=0, le=1)


class TriageInput(Strict):
    """Answers, and what a recording held if there was one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "answers": ANSWERS_EXAMPLE,
                    "sound": {"finding": "single_pop", "confidence": 0.93},
                },
                {"answers": {"bladder_bowel": "yes"}},
            ]
        },
    )

    answers: dict[str, Any]
    sound: SoundInput | None = None
    region: str | None = Field(default=None, max_length=20)
    language: str = Field(default=DEFAULT_LANGUAGE, max_length=20)


class InterviewInput(Strict):
    """Answers so far; null where the person left a question out.

    `details` names ticked items whose detail was left out.
    """

    answers: dict[str, Any] = Field(max_length=200)
    details: list[str] = Field(default=[], max_length=200)
    region: str | None = Field(default=None, max_length=20)
    language: str = Field(default=DEFAULT_LANGUAGE, max_length=20)


class StudyConsentInput(Strict):
    """What a person said to a version of the consent text."""

    version: int
    use: bool
    research: bool
    share: bool


class StudyAnswersInput(Strict):
    """Answers and outcome fields of a session; null where one was left out.

    `safety`: all that was answered, to tell whether the person may be asked to twist; not kept.
    """

    answers: dict[str, Any] = Field(max_length=200)
    safety: dict[str, Any] = Field(max_length=200)


class StudyTakeInput(Strict):
    """Whose take it is, and what cannot be heard in it."""

    participant: str = Field(max_length=20)
    device: str = Field(min_length=1, max_length=100)
    distance_cm: float = Field(ge=0, le=500)
    posture: str = Field(max_length=200)


class ErrorOutput(BaseModel):
    """One line that says what, which value and what to do."""

    error: str
    code: str


class Source(BaseModel):
    """Where a reason comes from."""

    key: str
    title: str
    url: str


class Reason(BaseModel):
    """A rule that applies."""

    rule: str
    level: Level
    text: str
    sources: list[Source]


class Text(BaseModel):
    """A piece of advice or a thing to watch for."""

    id: str
    text: str


class ExplanationOutput(Text):
    """A part of why a back cracks."""

    sources: list[Source]


class RecommendationOutput(BaseModel):
    """What to do next; the document of ``crepitus triage --json``."""

    level: Level
    reasons: list[Reason]
    advice: list[Text]
    safety_net: list[Text]
    incomplete: bool
    unanswered: list[str]
    no_self_manipulation: bool
    rules_version: str
    explanation: list[ExplanationOutput]


class AdviceOutput(BaseModel):
    """The recommendation in words, in the order in which a page shows them.

    `level_so_far` counts only what was answered; `may_twist` is false where a recording must not
    be asked for.
    """

    model_config = ConfigDict(extra="allow")

    level: Level
    level_so_far: Level
    may_twist: bool
    title: str
    who: str
    when: str


class WarningOutput(BaseModel):
    """Something about the recording that makes it harder to hear."""

    code: str
    text: str


class QualityOutput(BaseModel):
    """Whether the recording is usable, and what is the matter with it."""

    model_config = ConfigDict(extra="allow")

    usable: bool
    warnings: list[WarningOutput]


class EventOutput(BaseModel):
    """One sound: times in seconds from the start of the recording."""

    start: float
    end: float
    label: str
    probabilities: dict[str, float]
    uncertain: bool
    impacts: int
    reasons: list[str]


class FindingOutput(BaseModel):
    """The recording in one word."""

    label: str
    confidence: float = Field(ge=0, le=1)
    reasons: list[str]


class RecordingOutput(BaseModel):
    """One recording."""

    source: str
    status: Literal["ok", "failed"]
    error: str | None
    duration: float | None
    sample_rate: int | None
    quality: QualityOutput | None
    events: list[EventOutput]
    finding: FindingOutput | None
    recommendation: RecommendationOutput | None


class ModelOutput(BaseModel):
    """Which model listened."""

    name: str
    sha256: str


class AnalysisOutput(BaseModel):
    """The document of ``crepitus analyze --json``."""

    schema_version: int
    software: Any
    model: ModelOutput
    settings: dict[str, Any]
    recordings: list[RecordingOutput]


class OptionOutput(BaseModel):
    """One possible answer and its words."""

    value: str
    text: str


class DetailOutput(BaseModel):
    """What is asked of a line that was ticked."""

    text: str
    options: list[OptionOutput]


class QuestionOutput(BaseModel):
    """One question; nothing is mandatory. `group` names the list it is a line (`tick`) of."""

    id: str
    section: str
    group: str | None
    text: str
    lead: str
    why: str
    topic: str
    type: Literal["choice", "integer"]
    tick: str | None = None
    detail: DetailOutput | None = None
    options: list[OptionOutput] | None = None
    minimum: int | None = None
    maximum: int | None = None
    emergency_options: dict[str, str] | None = None
    clear_options: list[str] | None = None
    lowest: str | None = None


class QuestionnaireOutput(BaseModel):
    """The questions in the order asked, and the words around them."""

    model_config = ConfigDict(extra="allow")

    rules_version: str
    region: str
    questions: list[QuestionOutput]


class ScreenOutput(BaseModel):
    """What is asked at once: one question, or a list to tick (with `none` of them)."""

    title: str
    lead: str
    why: str
    ticked: bool
    detail: bool
    none: str
    questions: list[QuestionOutput]


class InterviewOutput(BaseModel):
    """Where the interview stands: the way so far, what is asked next, how much is left.

    `level_so_far` counts only what was answered; `may_twist` is false where a recording must not
    be asked for, and means something once `first_part_done` is true.
    """

    trail: list[ScreenOutput]
    screen: ScreenOutput | None
    answers: dict[str, str | int | None]
    remaining: int
    first_part_done: bool
    level_so_far: Level
    may_twist: bool


class HealthOutput(BaseModel):
    """Whether the server is alive, has loaded its model, and how many analyses are under way."""

    status: Literal["ok"]
    ready: bool
    pending: int


class VersionOutput(BaseModel):
    """What answers here."""

    software: str
    api: int
    model: ModelOutput | None
    rules_version: str


def _body(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Describe a request body of one kind."""
    return {"required": True, "content": {kind: {"schema": schema}}}


def _part(description: str, **more: Any) -> dict[str, Any]:
    """Describe a part of an upload."""
    return {"type": "string", "description": description, **more}


UPLOAD_BODY = _body(
    "multipart/form-data",
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["audio"],
        "properties": {
            "audio": _part("A sound or video file of any usual kind.", format="binary"),
            "answers": _part(
                "The answers as a JSON object; without it no recommendation is made."
                " Ids and options are in GET /api/v1/questions.",
                example='{"pain": "brief", "saddle_numbness": "no"}',
            ),
            "capture": _part(
                "JSON object: what a browser says it did to the sound"
                " (echoCancellation, noiseSuppression, autoGainControl: true, false or"
                " null for unknown). It becomes a quality warning.",
                example='{"noiseSuppression": false}',
            ),
            "region": _part("Country whose emergency number is shown in a report.", example="GB"),
            "language": _part("Language of the recommendation.", example="en"),
            "embed": _part("Whether to put the sound inside a report.", enum=["yes", "no"]),
        },
    },
)

TRIAGE_BODY, INTERVIEW_BODY = (
    _body("application/json", {"$ref": f"#/components/schemas/{model.__name__}"})
    for model in (TriageInput, InterviewInput)
)


def request_schemas() -> dict[str, Any]:
    """Return the schemas of JSON request bodies by name, for the OpenAPI components."""
    found: dict[str, Any] = {}
    for model in (TriageInput, InterviewInput):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= {model.__name__: schema, **schema.pop("$defs", {})}
    return found
