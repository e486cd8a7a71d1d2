"""Why a row, or a part of one, is left out. Every row that goes is counted under exactly one reason."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The reasons, in the order of the funnel. `explanation` says each in words."""

    OTHER_PATIENT = "other_patient"
    UNKNOWN_STUDY = "unknown_study"
    REFERENCE_LATER = "reference_later"
    SAME_TIME = "same_time"
    NOT_NEIGHBOURS = "not_neighbours"
    NO_IMAGE_IN_VIEW = "no_image_in_view"
    NO_SPLIT = "no_split"
    MALFORMED_ANSWER = "malformed_answer"
    UNKNOWN_FINDING = "unknown_finding"
    UNKNOWN_LEVEL = "unknown_level"
    CONTRADICTION = "contradiction"
    DUPLICATE_ROW = "duplicate_row"
    CONFLICTING_ROWS = "conflicting_rows"
    AREA_ROW_WITHOUT_RECORD = "area_row_without_record"
    AREA_ROW_DISAGREES = "area_row_disagrees"
    UNCHANGED = "unchanged"
    AMBIGUOUS_LEVEL = "ambiguous_level"
    LEVEL_OFF_SCALE = "level_off_scale"
    NO_SEVERITY = "no_severity"
    UNCONFIRMED_REMOVAL = "unconfirmed_removal"
    TOO_LONG = "too_long"
    IMAGE_MISSING = "image_missing"
    IMAGE_UNUSABLE = "image_unusable"
    POOR_REGISTRATION = "poor_registration"

    @property
    def explanation(self) -> str:
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Reason.OTHER_PATIENT: "the two studies belong to different patients",
    Reason.UNKNOWN_STUDY: "a study is not in the metadata, or has no date there",
    Reason.REFERENCE_LATER: "the reference study is the later one",
    Reason.SAME_TIME: "the two studies cannot be put in order: same date, and same or missing time",
    Reason.NOT_NEIGHBOURS: "another visit lies between the two images",
    Reason.NO_IMAGE_IN_VIEW: "the studies have no image each in one of the views asked for",
    Reason.NO_SPLIT: "the patient is in no split",
    Reason.MALFORMED_ANSWER: "the answer is not made of the known sentences",
    Reason.UNKNOWN_FINDING: "a finding is not in the vocabulary",
    Reason.UNKNOWN_LEVEL: "a level cannot be divided into known words",
    Reason.CONTRADICTION: "the answer says two things of one finding",
    Reason.DUPLICATE_ROW: "another row says the same of this pair, or more",
    Reason.CONFLICTING_ROWS: "two rows of this pair disagree, and all_diseases.json sides with neither",
    Reason.AREA_ROW_WITHOUT_RECORD: "an answer about one area only, and all_diseases.json lacks a study to rebuild it",
    Reason.AREA_ROW_DISAGREES: "an answer about one area only, which all_diseases.json does not bear out",
    Reason.UNCHANGED: "nothing has changed, so there is nothing to learn to edit",
    Reason.AMBIGUOUS_LEVEL: "two readings of a change of level, and all_diseases.json does not decide",
    Reason.LEVEL_OFF_SCALE: "a level's words do not make one level of the scale",
    Reason.NO_SEVERITY: "the only change is of words that are no severity, such as acute, or mean the same",
    Reason.UNCONFIRMED_REMOVAL: "strict: the later report does not deny what is missing, it only does not mention it",
    Reason.TOO_LONG: "the instruction does not fit CLIP's 77 tokens",
    Reason.IMAGE_MISSING: "an image file is not there",
    Reason.IMAGE_UNUSABLE: "an image file is damaged, or no gray radiograph",
    Reason.POOR_REGISTRATION: "the past image could not be aligned with the current one",
}


class Rejected(Exception):
    """A row that cannot be used.

    Attributes:
        reason: why.
        detail: the word or file in question; may be empty.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
