"""The words of the instruction language: findings, levels, sides, zones, verbs and small words.

Everything that a person may type is listed here, in lower case and without articles, because the reader drops
those before it matches the longest phrase on word boundaries. What is not listed is an error, never noise.
Findings, levels and locations are those of method section 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Operation(StrEnum):
    """What an edit does to its finding."""

    ADD = "add"
    REMOVE = "remove"
    CHANGE = "change"


@dataclass(frozen=True)
class Finding:
    """A finding, how people call it, and what can be said about it.

    Attributes:
        name: the canonical name, with articles, as it stands in canonical sentences.
        synonyms: other phrases for it; `*` stands for an optional side ("fracture of * rib").
        has_side: whether left, right and bilateral make sense for it.
        has_zone: whether a zone of the lung makes sense for it.
        has_level: whether a severity or size makes sense for it.
        lobar: whether its upper and lower zones are spoken as lobes ("left lower lobe pneumonia").
    """

    name: str
    synonyms: tuple[str, ...] = ()
    has_side: bool = True
    has_zone: bool = True
    has_level: bool = True
    lobar: bool = False


def _lung(name: str, *synonyms: str) -> Finding:
    """A finding of the lung's own tissue."""
    return Finding(name, synonyms, lobar=True)


def _midline(name: str, *synonyms: str) -> Finding:
    """A finding of the heart, the middle of the chest or the whole body: it has neither side nor zone."""
    return Finding(name, synonyms, has_side=False, has_zone=False)


_PAPER = (
    Finding("pleural effusion", ("pleural effusions", "effusion", "effusions", "pleural fluid")),
    _lung(
        "atelectasis", "atelectases", "volume loss", "loss of volume", "collapse", "lobar collapse",
        "lung collapse", "collapsed lung",
    ),
    _midline(
        "cardiomegaly", "enlarged heart", "enlargement of heart", "heart enlargement", "cardiac enlargement",
    ),
    _midline(
        "enlargement of the cardiac silhouette", "enlarged cardiac silhouette",
        "cardiac silhouette enlargement", "enlarged heart silhouette", "enlargement of heart silhouette",
    ),
    _lung("edema", "oedema", "pulmonary edema", "pulmonary oedema", "lung edema", "lung oedema"),
    _midline("hernia", "hernias", "hiatal hernia", "hiatus hernia"),
    Finding(
        "vascular congestion",
        ("pulmonary vascular congestion", "pulmonary congestion", "pulmonary venous congestion",
         "venous congestion"),
    ),
    Finding("hilar congestion", ("hilar vascular congestion", "congestion of * hilum"), has_zone=False),
    Finding("pneumothorax", ("pneumothoraces", "ptx")),
    _midline("heart failure", "chf", "congestive heart failure", "cardiac failure", "cardiac decompensation"),
    Finding(
        "lung opacity",
        (
            "lung opacities", "opacity", "opacities", "opacification", "opacifications", "lung opacification",
            "airspace opacity", "airspace opacities", "airspace opacification", "air space opacity",
            "air space opacities", "air space opacification", "pulmonary opacity", "pulmonary opacities",
        ),
    ),
    _lung("pneumonia", "pneumonias"),
    _midline("tortuosity of the descending aorta", "tortuous descending aorta",
             "descending aortic tortuosity"),
    _midline("scoliosis"),
    _midline("gastric distention", "gastric distension", "distended stomach", "distention of stomach",
             "distension of stomach"),
    _midline("hypoxemia", "hypoxaemia"),
    _midline("hypertensive heart disease"),
    Finding("hematoma", ("hematomas", "haematoma", "haematomas")),
    _midline("tortuosity of the thoracic aorta", "tortuous thoracic aorta", "thoracic aortic tortuosity",
             "tortuous aorta", "aortic tortuosity", "tortuosity of aorta"),
    _lung("contusion", "contusions", "lung contusion", "pulmonary contusion"),
    _lung("emphysema"),
    _lung("granuloma", "granulomas", "granulomata", "granulomatous disease"),
    _lung("calcification", "calcifications"),
    Finding("pleural thickening", ("thickening of * pleura", "thickened pleura")),
    _midline("thymoma", "thymomas"),
    Finding(
        "blunting of the costophrenic angle",
        ("blunting of * costophrenic angle", "blunting of * costophrenic angles",
         "blunted * costophrenic angle", "blunted * costophrenic angles", "costophrenic angle blunting"),
        has_zone=False,
    ),
    _lung("consolidation", "consolidations"),
    Finding(
        "fracture",
        ("fractures", "rib fracture", "rib fractures", "fracture of * rib", "fractures of * ribs",
         "fractured * rib", "fractured * ribs", "broken * rib", "broken * ribs"),
        has_level=False,
    ),
    _midline("pneumomediastinum", "mediastinal air", "air in mediastinum"),
    Finding("air collection", ("air collections", "collection of air", "collections of air")),
    _lung("infection", "infections"),
)

# Not in the paper's list: small and large round lesions, which experts' boxes exist for.
_EXTENSION = (
    _lung("nodule", "nodules", "lung nodule", "lung nodules", "pulmonary nodule", "pulmonary nodules"),
    _lung("mass", "masses", "lung mass", "lung masses", "pulmonary mass", "pulmonary masses"),
)

PAPER_FINDINGS: tuple[str, ...] = tuple(finding.name for finding in _PAPER)
FINDINGS: MappingProxyType[str, Finding] = MappingProxyType(
    {finding.name: finding for finding in _PAPER + _EXTENSION}
)

LEVELS: MappingProxyType[str, float] = MappingProxyType(
    {
        "minimal": 1.0,
        "subtle": 1.0,
        "trace": 1.0,
        "small": 2.0,
        "mild": 2.0,
        "minor": 2.0,
        "mild to moderate": 2.5,
        "small to moderate": 2.5,
        "moderate": 3.0,
        "moderate to large": 3.5,
        "moderate to severe": 4.0,
        "large": 4.0,
        "severe": 5.0,
        "massive": 5.0,
    }
)
"""Every level and its rank on the scale of method section 5.4; levels of one rank stay different words."""

LEVEL_SYNONYMS = {
    "minimally": "minimal",
    "slight": "minimal",
    "slightly": "minimal",
    "subtly": "subtle",
    "tiny": "trace",
    "mildly": "mild",
    "moderately": "moderate",
    "big": "large",
    "severely": "severe",
    "massively": "massive",
    "huge": "massive",
}

SIDES: tuple[str, ...] = ("left", "right", "bilateral")
"""The patient's sides."""

SIDE_SYNONYMS = {
    "leftsided": "left",
    "rightsided": "right",
    "bilaterally": "bilateral",
    "left and right": "bilateral",
    "right and left": "bilateral",
    **dict.fromkeys(("both lung", "both lungs", "both lung fields", "both sides"), "bilateral"),
}

ZONES: MappingProxyType[str, frozenset[str]] = MappingProxyType(
    {
        "upper": frozenset({"upper"}),
        "middle": frozenset({"middle"}),
        "lower": frozenset({"lower"}),
        "apical": frozenset({"upper"}),
        "basal": frozenset({"lower"}),
        "retrocardiac": frozenset({"middle", "lower"}),
        "perihilar": frozenset({"upper", "middle"}),
    }
)
"""Every zone and the thirds of a lung that it touches. A lobe counts as the third that it mostly fills."""

ZONE_SYNONYMS = {
    "mid": "middle",
    "apex": "apical",
    "apicolateral": "apical",
    "base": "basal",
    "basilar": "basal",
    "costophrenic angle": "basal",
    "behind heart": "retrocardiac",
    "hilar": "perihilar",
    "hilum": "perihilar",
    "parahilar": "perihilar",
}

PLACES = {
    "bases": ("bilateral", "basal"),
    "bibasilar": ("bilateral", "basal"),
    "bibasal": ("bilateral", "basal"),
    "apices": ("bilateral", "apical"),
    "biapical": ("bilateral", "apical"),
    "lingula": ("left", "middle"),
    "lingular": ("left", "middle"),
    "rul": ("right", "upper"),
    "rml": ("right", "middle"),
    "rll": ("right", "lower"),
    "lul": ("left", "upper"),
    "lll": ("left", "lower"),
    "both bases": ("bilateral", "basal"),
    "both apices": ("bilateral", "apical"),
    **{f"both {word}": ("bilateral", zone) for word, zone in ({z: z for z in ZONES} | ZONE_SYNONYMS).items()},
}
"""Words that name a side and a zone at once."""

VERBS = {
    "add": (Operation.ADD, 0),
    "insert": (Operation.ADD, 0),
    "introduce": (Operation.ADD, 0),
    "simulate": (Operation.ADD, 0),
    "create": (Operation.ADD, 0),
    "generate": (Operation.ADD, 0),
    "include": (Operation.ADD, 0),
    "give": (Operation.ADD, 0),
    "put": (Operation.ADD, 0),
    "remove": (Operation.REMOVE, 0),
    "delete": (Operation.REMOVE, 0),
    "erase": (Operation.REMOVE, 0),
    "eliminate": (Operation.REMOVE, 0),
    "clear": (Operation.REMOVE, 0),
    "clear up": (Operation.REMOVE, 0),
    "resolve": (Operation.REMOVE, 0),
    "take away": (Operation.REMOVE, 0),
    "take out": (Operation.REMOVE, 0),
    "get rid of": (Operation.REMOVE, 0),
    "change": (Operation.CHANGE, 0),
    "alter": (Operation.CHANGE, 0),
    "modify": (Operation.CHANGE, 0),
    "adjust": (Operation.CHANGE, 0),
    "set": (Operation.CHANGE, 0),
    "increase": (Operation.CHANGE, +1),
    "raise": (Operation.CHANGE, +1),
    "enlarge": (Operation.CHANGE, +1),
    "worsen": (Operation.CHANGE, +1),
    "decrease": (Operation.CHANGE, -1),
    "reduce": (Operation.CHANGE, -1),
    "lessen": (Operation.CHANGE, -1),
    "shrink": (Operation.CHANGE, -1),
    "improve": (Operation.CHANGE, -1),
}
"""Every verb, its operation, and the direction (+1 up, -1 down, 0 either) in which it may move a level."""

ARTICLES = frozenset({"a", "an", "the"})

CONJUNCTIONS = frozenset({"and", "&", "+", "plus", "as well as", "along with", "together with"})

PREPOSITIONS = frozenset({"of", "in", "at", "on", "over", "within", "into", "onto", "inside", "for"})

FILLERS = frozenset(
    """
    finding findings sign signs evidence level levels severity size sized degree extent amount
    please kindly can could would you i we want need me now then next also just
    some any all new this that these those which is are his her their my existing
    patient patient's image x-ray xray radiograph picture film cxr chest
    lung lungs pulmonary lobe lobes zone zones region regions area areas field fields side sides sided
    hemithorax
    """.split()
) | {"would like", "i'd like"}
"""Words that may stand anywhere and change nothing. These, and no others, are passed over."""

_NEGATION = 'turns the meaning round: say what to do instead, as in "Remove the finding of edema."'
_NO_SEVERITY = "is not a severity: leave it out, or name a level such as mild."
_NAME_THE_LEVEL = 'does not say how far: write as in "Change the level of edema from mild to moderate."'

REFUSED = {
    **dict.fromkeys("no not never none without neither nor except dont cannot absent".split(), _NEGATION),
    **dict.fromkeys(
        """acute chronic stable increasing decreasing increased decreased worsening worsened
        improving improved resolving""".split(),
        _NO_SEVERITY,
    ),
    **dict.fromkeys("make turn larger bigger smaller worse better more less".split(), _NAME_THE_LEVEL),
    "but": 'could except what follows: write "and", or a new sentence.',
    "or": "leaves the choice open: name the one that is meant.",
    "with": 'could tie two findings or describe the patient: write "and" between findings.',
    "both": 'could mean two sides or two findings: for the sides, write "bilateral".',
    "unilateral": "does not say which side: write left or right.",
}
"""Words that are refused, and why: passing over them could do the opposite of what was meant."""
