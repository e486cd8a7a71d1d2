"""Words that are known but refused, why, and what may stand in their place; and the one line that a refusal is.

A refusal does not stop the reader: it notes the reason, mends the instruction as the tables say, and goes on. What it
then reads is offered as the sentence to write. Where nothing stands in a word's place, nothing is offered: another
disease is never a suggestion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ..errors import InstructionError

MAX_SUGGESTION = 240
T = TypeVar("T")


@dataclass(frozen=True)
class Refusal:
    """Why a phrase is refused, and how the instruction is mended.

    Attributes:
        reason: goes on behind the phrase: "'acute' is no severity".
        instead: what stands in its place, several where they differ in meaning, "" for nothing; empty: no mending.
        cut: whether what follows the phrase goes with it, to the end of the sentence or the next verb.
    """

    reason: str
    instead: tuple[str, ...] = ()
    cut: bool = False


@dataclass
class Notes:
    """What was found wrong in one reading of an instruction.

    Attributes:
        choice: which of several mendings this reading takes.
        reasons: in the order in which they were found; the first is told.
        choices: how many readings there are.
    """

    choice: int = 0
    reasons: list[str] = field(default_factory=list)
    choices: int = 1

    def mended(self, reason: str, instead: Sequence[T] = ()) -> T | None:
        """Note a reason; what this reading takes in place of the words, None where nothing is named."""
        self.reasons.append(reason)
        self.choices = max(self.choices, len(instead))
        return instead[min(self.choice, len(instead) - 1)] if instead else None


def refused(reason: str, suggestions: Iterable[str] = ()) -> InstructionError:
    """A refusal in one line: what is not understood and why, and the sentences that can be written instead."""
    offered = [f'"{text}"' for text in dict.fromkeys(suggestions) if len(text) <= MAX_SUGGESTION]
    if not offered:
        return InstructionError(reason.rstrip(".") + ".")
    return InstructionError(f"{reason}{', as in' if ': ' in reason else ': write'} {' or '.join(offered)}")


def quoted(words: str) -> str:
    """Words for an error message: on one line, printable, and not longer than the message around them."""
    short = words if len(words) <= 40 else words[:37] + "..."
    return "'" + "".join(c if c.isprintable() else "?" for c in short) + "'"


def _each(phrases: str, refusal: Refusal) -> dict[str, Refusal]:
    """One refusal for every phrase of a list; commas and line breaks divide it."""
    return {" ".join(phrase.split()): refusal for phrase in phrases.split(",") if phrase.strip()}


_NO_FINDING = Refusal("is not among the findings that can be edited (x2x vocabulary lists them)")
_DEVICE = Refusal("is a device, and devices are not among the findings that can be edited")
_ORGAN = Refusal("is a part of the body and no finding: name the finding")
_PERSON = Refusal("is the patient's, and only findings can be edited")
_PICTURE = Refusal("is about the image, and only findings can be edited")
_QUESTION = Refusal("asks about the image; an instruction changes it: begin with Add, Remove or Change")
_TURNS = Refusal("turns the meaning round; what is not named is not changed, so leave it out", ("",), cut=True)
REMOVES = Refusal("turns the meaning round: say what to do instead", ("remove",))
_WHAT_NOT = Refusal("says what not to do; what is not named is not changed, so leave it out", ("",), cut=True)
_CONDITION = Refusal("sets a condition, and an instruction has none: leave it out", ("",), cut=True)
_NAME_EACH = Refusal("does not say what is to go: name each finding to remove; what is not named stays")
_NOTHING = Refusal("leaves nothing to do: name a finding to add, remove or change")
_NO_SEVERITY = Refusal("is no severity: leave it out, or name a level such as mild", ("",))
_NO_TEXTURE = Refusal("cannot be asked for: leave it out", ("",))
_NO_CAUSE = Refusal("tells a cause or course, which cannot be asked for: leave it out", ("",))
_NO_PLACE = Refusal("is no place that can be asked for: name a side or a zone, or leave it out", ("",))
_NO_NUMBER = Refusal("is a number, and a number of lesions cannot be asked for: leave it out", ("",))
_VAGUE = Refusal("does not say how far: name the level", ("",))
_IMAGE_PLACE = Refusal("is a place in the image; sides are the patient's, not the image's: name the patient's side")


def _shows(names: str, *findings: str) -> Refusal:
    """A diagnosis whose picture is one of these findings."""
    return Refusal(f"is a diagnosis and no finding; what an X-ray shows of it is {names}", findings)


def _means(names: str, *findings: str) -> Refusal:
    return Refusal(f"can mean {names}: name one", findings)


_OPEN_SIZE = ("nodule", "mass")

REFUSED: dict[str, Refusal] = {
    # -- diseases and signs that the vocabulary does not have
    **_each(
        """fibrosis, pulmonary fibrosis, lung fibrosis, ipf, interstitial lung disease, interstitial disease,
        interstitial markings, reticulation, reticular pattern, reticular opacity, reticular opacities,
        honeycombing, honeycomb lung, ild, tuberculosis, tb, pulmonary tuberculosis, miliary tb, ghon complex,
        sarcoidosis, sarcoid, silicosis, asbestosis, pneumoconiosis, pneumonitis, bronchitis, bronchiolitis,
        bronchiectasis, asthma, cystic fibrosis, empyema, hemothorax, haemothorax, chylothorax, hydrothorax,
        pyopneumothorax, abscess, lung abscess, cavity, cavities, cavitation, cavitary lesion, cyst, cysts, bulla,
        bullae, bleb, blebs, pneumatocele, hyperinflation, hyperinflated lungs, hyperinflated lung, air trapping,
        barrel chest, flattened diaphragm, flattened diaphragms, flat diaphragm, pneumoperitoneum, free air, free
        intraperitoneal air, air under diaphragm, pneumopericardium, pericardial effusion, pericardial effusions,
        pericardial fluid, pericarditis, tamponade, cardiac tamponade, subcutaneous emphysema, surgical emphysema,
        subcutaneous air, soft tissue emphysema, pleural plaque, pleural plaques, pleural calcification, pleurisy,
        mesothelioma, lymphadenopathy, adenopathy, hilar lymphadenopathy, mediastinal lymphadenopathy, enlarged
        lymph nodes, lymphoma, mediastinal widening, widened mediastinum, wide mediastinum, mediastinal shift,
        midline shift, mediastinal mass, breast mass, tracheal deviation, deviated trachea, tracheal shift, elevated
        diaphragm, elevated hemidiaphragm, raised hemidiaphragm, diaphragmatic elevation, diaphragmatic hernia,
        inguinal hernia, eventration, aneurysm, aortic aneurysm, aortic dissection, dissection, dilated aorta,
        ectatic aorta, aortic dilatation, aortic calcification, aortic calcifications, atherosclerosis, valve
        disease, pulmonary embolism, pulmonary emboli, embolism, pulmonary infarct, infarct, infarction, hamartoma,
        teratoma, goiter, goitre, kyphosis, lordosis, kyphoscoliosis, osteophytes, degenerative changes,
        degenerative change, osteoporosis, osteopenia, arthritis, dislocation, vertebral fracture, compression
        fracture, skull fracture, hip fracture, femur fracture, dextrocardia, situs inversus, azygos lobe, hilar
        enlargement, enlarged hilum, hilar prominence, enlarged hila, cephalization, peribronchial cuffing,
        bronchial wall thickening, scarring, scar, myocardial infarction, heart attack, cardiomyopathy, ventricular
        hypertrophy, ileus, bowel obstruction, pneumatosis, ascites, gastric bubble, stomach bubble, gas bubble,
        blood, pus, cerebral edema, brain edema, laryngeal edema, soft tissue edema, joint effusion, knee effusion,
        subdural hematoma, septic emboli""",
        _NO_FINDING,
    ),
    **dict.fromkeys(
        ("hydropneumothorax", "haemopneumothorax", "hemopneumothorax"),
        Refusal("is not among the findings that can be edited; its air alone is a pneumothorax"),
    ),
    # -- diagnoses, with what an X-ray shows of them
    **_each(
        "copd, chronic obstructive pulmonary disease, chronic obstructive lung disease",
        _shows("emphysema", "emphysema"),
    ),
    **_each(
        """cancer, lung cancer, carcinoma, bronchial carcinoma, adenocarcinoma, malignancy, neoplasm, tumor, tumour,
        lung tumor, lung tumour, metastasis, metastases, mets, lung metastases, pulmonary metastases""",
        _shows("a nodule or a mass", *_OPEN_SIZE),
    ),
    **_each("tumors, tumours, neoplasms", _shows("a nodule or a mass", *_OPEN_SIZE)),
    **_each(
        "fluid overload, volume overload, hypervolemia, overhydration",
        _shows("edema or vascular congestion", "edema", "vascular congestion"),
    ),
    **_each("ards, acute respiratory distress syndrome", _shows("edema or lung opacity", "edema", "lung opacity")),
    **_each(
        "covid, covid 19, covid pneumonia, covid 19 pneumonia, sars cov 2, influenza, flu",
        _shows("pneumonia or lung opacity", "pneumonia", "lung opacity"),
    ),
    **_each(
        "kerley b lines, kerley lines, septal lines, kerley b", Refusal("are a sign of edema: name edema", ("edema",))
    ),
    # -- words with two meanings
    **_each(
        "collapsed lung, collapsed lungs, lung collapse, collapse of lung, collapsed",
        _means("atelectasis or pneumothorax", "atelectasis", "pneumothorax"),
    ),
    **_each(
        "lesion, lesions, lung lesion, lung lesions, pulmonary lesion, pulmonary lesions, spot, spots",
        Refusal("leaves open whether a nodule or a mass is meant: name one", _OPEN_SIZE),
    ),
    "pe": _means("pulmonary embolism, which cannot be edited, pleural effusion or edema", "pleural effusion", "edema"),
    "pneumo": _means("pneumothorax or pneumonia", "pneumothorax", "pneumonia"),
    "congestion": _means("vascular or hilar congestion", "vascular congestion", "hilar congestion"),
    **_each("fluid in lung, fluid in lungs", _means("edema or pleural effusion", "edema", "pleural effusion")),
    "fluid": _means("edema or pleural effusion", "edema", "pleural effusion"),
    **_each(
        "whiteout, white out, white lung, white hemithorax, opacified hemithorax, complete opacification",
        _means(
            "a massive pleural effusion, atelectasis or lung opacity",
            "massive pleural effusion",
            "massive atelectasis",
            "massive lung opacity",
        ),
    ),
    "unilateral": Refusal("does not say which side: name left or right", ("left", "right")),
    **_each(
        "shadow, shadows",
        Refusal("leaves open what is meant: name an opacity, a nodule or a mass", ("lung opacity", *_OPEN_SIZE)),
    ),
    **_each("one side, one lung, one sided", Refusal("does not say which side: name left or right", ("left", "right"))),
    "both": Refusal("could mean two sides or two findings: for the sides, write bilateral", ("bilateral", "")),
    # -- devices, other parts of the body, the patient, the image
    **_each(
        """pacemaker, pacer, pacemaker lead, pacemaker leads, icd, aicd, defibrillator, lead, leads, wire, wires,
        sternal wires, sternotomy, sternotomy wires, clips, surgical clips, stent, stents, valve, prosthesis,
        prosthetic valve, mechanical valve, heart valve, ett, et tube, endotracheal tube, breathing tube,
        tracheostomy, trach, ngt, ogt, ng tube, og tube, nasogastric tube, feeding tube, dobhoff, dobhoff tube,
        tube, tubes, chest tube, chest tubes, chest drain, pleural drain, pigtail, pigtail catheter, drain,
        catheter, catheters, central line, cvc, cvl, central venous catheter, central venous line, picc, picc line,
        port, port a cath, portacath, mediport, ij line, swan ganz, swan ganz catheter, line, lines, iabp, balloon
        pump, ecmo, lvad, electrode, electrodes, ecg leads, ecg electrodes, hardware, screw, screws, implant,
        implants, device, devices, necklace, jewelry, jewellery, foreign body, coil, vp shunt, shunt, ventilator""",
        _DEVICE,
    ),
    **_each(
        """aorta, aortic arch, aortic knob, diaphragm, hemidiaphragm, mediastinum, trachea, carina, rib, ribs, spine,
        vertebra, vertebrae, bone, bones, clavicle, scapula, sternum, humerus, shoulder, pleura, stomach, liver,
        spleen, abdomen, bowel, brain, skull, head, neck, knee, hip, pelvis, arm, leg, hand, foot, breast, skin,
        soft tissue, soft tissues, kidney, esophagus, oesophagus, vessels, vessel, bronchus, bronchi, airway,
        airways, hila""",
        _ORGAN,
    ),
    **_each(
        """age, older, younger, old, young, sex, gender, male, female, man, woman, boy, girl, child, baby, race,
        ethnicity, weight, obese, obesity, fat, thinner, fatter, thin, smoker, taller, shorter, pregnant, years""",
        _PERSON,
    ),
    **_each(
        """brightness, contrast, exposure, quality, resolution, noise, blur, blurry, sharpness, sharper, sharpen,
        denoise, brighten, brighter, darken, darker, bright, dark, invert, rotate, flip, mirror, crop, zoom,
        colorize, colour, color, lateral view, lateral, marker, markers, annotation, annotations, label, labels,
        text, letters, artifact, artifacts, artefact, artefacts, ct, mri, ultrasound, background, enhance""",
        _PICTURE,
    ),
    **_each(
        "corner, corners, top of image, bottom of image, pixel, pixels, center of image, centre of image",
        _IMAGE_PLACE,
    ),
    # -- sentences that are no instructions
    **_each(
        """is there, are there, do you see, can you see, does, did, do, where, which side, why, how many, how much, how
        big, how large, how bad, how severe, what is, what's, what are, who, diagnose, diagnosis, detect, segment,
        find, describe, explain, measure, count, report, is it, is this, tell me, localize, locate, highlight,
        interpret""",
        _QUESTION,
    ),
    **_each(
        "no, not, never, none, without, neither, nor, except, cannot, absent, absence, free of, nothing but",
        _TURNS,
    ),
    **_each(
        """but not, but no, but without, but never, except for, apart from, other than, but keep,
        but leave, but do not, but don't, rather than, with no""",
        _TURNS,
    ),
    **_each(
        "do not, don't, dont, does not, must not, should not, shouldn't, never, avoid, stop, keep, leave, preserve, "
        "retain, maintain, protect, ignore, spare, no need to, no change, no changes",
        _WHAT_NOT,
    ),
    **_each("if, unless, when, until, while, because, since, before, after, only if, in case", _CONDITION),
    **_each(
        """everything, everything else, all findings, all abnormalities, all abnormality, abnormality, abnormalities,
        abnormal, pathology, pathologies, disease, diseases, all disease, normal, healthy, normalize, normalise, no
        finding, no findings, no abnormality, no abnormalities, no disease, normal chest, clean, back to normal,
        problem, problems, illness""",
        _NAME_EACH,
    ),
    **_each("nothing, anything, something, undo, revert, whatever", _NOTHING),
    "or": Refusal("leaves the choice open: name the one that is meant"),
    "instead of": Refusal("asks for two edits", (". remove",)),
    "but": Refusal("could except what follows: write two sentences, or leave it out"),
    "with": Refusal("could tie two findings or describe the patient: write 'and' between findings", ("and",)),
    **_each("treat, cure, heal, fix, repair", Refusal("is no edit: say what changes in the image", ("remove",))),
    **_each("dextroscoliosis, levoscoliosis", Refusal("has a direction, which cannot be asked for", ("scoliosis",))),
    # -- what cannot be said about a finding
    **_each(
        """acute, chronic, stable, increasing, decreasing, increased, decreased, worsening, worsened, improving,
        improved, resolving, subacute, old healed, healed, recent, progressive, persistent, unchanged, tension,
        loculated, layering, free flowing, subpulmonic, recurrent, spontaneous, simple, complex, critical, serious,
        significant, considerable, substantial, prominent, extensive, nice, typical, obvious, visible, pronounced,
        realistic""",
        _NO_SEVERITY,
    ),
    **_each(
        """patchy, hazy, fluffy, dense, diffuse, focal, multifocal, confluent, streaky, linear, reticular, nodular,
        spiculated, calcified, cavitary, cavitating, round, solid, subsolid, part solid, smooth, irregular, well
        defined, ill defined, interstitial, alveolar, airspace, displaced, nondisplaced""",
        _NO_TEXTURE,
    ),
    **_each(
        """bacterial, viral, fungal, aspiration, atypical, community acquired, hospital acquired, benign, metastatic,
        traumatic, postoperative, post operative, cardiogenic, noncardiogenic, non cardiogenic, infectious,
        congenital, suspicious, congestive, interval""",
        _NO_CAUSE,
    ),
    **_each(
        """anterior, posterior, medial, central, peripheral, subpleural, paratracheal, paraspinal, infrahilar,
        suprahilar, mediastinal, paramediastinal, cardiophrenic, costophrenic, fissural, interlobar, dependent,
        outer, inner, ipsilateral, contralateral, next to heart, near heart, beside heart, around heart""",
        _NO_PLACE,
    ),
    **_each(
        """two, three, four, five, six, seven, eight, nine, ten, several, multiple, many, numerous, few, couple of,
        couple, pair of, pair, scattered, innumerable, countless, single, another, dozens of, cluster of""",
        _NO_NUMBER,
    ),
    **_each("bit of, little bit of, touch of, hint of", Refusal("is no level: name one", ("mild",))),
    **_each(
        """bit, little bit, little, lot of, lots of, lot, much, somewhat, further, even, a lot more, considerably,
        significantly, dramatically, noticeably, by lot, by bit, by little, rather, quite, fairly, very, extremely,
        loads of, plenty of, tons of, enough, gradually, as much as possible, partially, partly, partial, kind of,
        sort of, slowly, one grade, one level, by one level, by one grade, notch, by notch""",
        _VAGUE,
    ),
}
"""Phrases that are refused: passing over them could do something else than what was meant."""

HEART = Refusal("is no finding; that of a large heart is cardiomegaly, with a level", ("cardiomegaly",))
REFUSED |= _each(
    "heart, hearts, heart size, size of heart, cardiac size, cardiac silhouette, heart silhouette, heart shadow, "
    "cardiac shadow, cardiothoracic ratio, ctr, cardiac",
    HEART,
)

FOREIGN = frozenset(
    """
    der das ein eine einen einem und mit ohne auf der links rechts linke rechte linken rechten linksseitig
    linksseitigen rechtsseitig rechtsseitigen entferne entfernen zeige erguss pleuraerguss lungenentzündung
    le les un une et avec sans sur gauche droite droit ajoute ajouter ajoutez retire retirer retirez enlever enlevez
    épanchement el la los las una unos y con sin izquierdo izquierda derecho derecha agregar agregue añade añadir
    quitar quite elimina eliminar derrame il lo gli uno e senza sinistro sinistra destro destra aggiungi aggiungere
    rimuovi rimuovere versamento um uma com sem esquerdo esquerda direito direita adicione adicionar remova remover
    een het en met zonder rechter linker voeg toe verwijder dodaj usun lewy prawy lägg till ta bort
    """.split()
)
"""Frequent words of instructions in other languages, which name no finding in English."""
ENGLISH = "instructions are read in English"
