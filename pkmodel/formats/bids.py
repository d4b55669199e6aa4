"""PET-BIDS: frames from ``*_pet.json``, curves from ``*_tacs.tsv``, blood from ``*_blood.tsv`` with its sidecar.

Units are carried as each file states them: tissue in Bq/mL beside blood in kBq/mL stays visible until ``to_unit``, and
where they cannot both be true the file is named. What BIDS leaves open is asked for, not assumed: whether blood samples
are decay-corrected, the unit of body mass. Frame tables (``_tacs.tsv``) are common practice (BEP023), not yet part of
the specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data import Curves, Study, curves_of_scan, study_of_folder
from ..errors import DataError
from .bids_files import frames_of, read_json, value_of
from .bids_folder import Choice, as_regions, read_folder
from .bids_scan import Negative, Reading, read_scan
from .curve import Array

Units = Mapping[str, str | Mapping[str, str]]


def read_frames(pet_json: str | Path) -> tuple[Array, Array]:
    """Start and end of the frames of a ``*_pet.json``, relative to the file's time zero.

    Parameters
    ----------
    pet_json : path of the file [text]

    Returns
    -------
    t_start, t_end : (n,) arrays, increasing, not overlapping [h]

    Raises
    ------
    DataError
        The frames are missing, overlap, or hold end times where durations belong.
    """
    path = Path(pet_json)
    return frames_of(read_json(path), path.name)


def read_pet(
    pet_json: str | Path,
    tacs: str | Path | None = None,
    blood: Sequence[str | Path] = (),
    *,
    blood_decay_corrected: bool | None = None,
    body_mass: str | None = None,
    negative: Negative = "refuse",
    units: Mapping[str, str] | None = None,
) -> Curves:
    """Curves of one PET scan from its BIDS files.

    Parameters
    ----------
    pet_json : the scan's ``*_pet.json`` [text]
    tacs : its ``*_tacs.tsv``, columns frame_start, frame_end [s] and one per region [text]
    blood : its ``*_blood.tsv`` files; each needs the ``.json`` beside it for its units [text]
    blood_decay_corrected : whether blood values are corrected to injection; must be said where there is blood [bool]
    body_mass : such as "75.8 kg" (``participants.tsv`` has it), for SUV [text]
    negative : "refuse" values below zero, "keep" them or take them as "zero" with a warning (early frames and
        background-corrected blood) [text]
    units : what a file states wrongly: ``tissue``, ``plasma_radioactivity``, ``whole_blood_radioactivity``,
        ``InjectedRadioactivity`` -> unit [text]

    Raises
    ------
    DataError
        Something in the files is wrong or not said; the message names file, row, found and allowed.
    """
    path = Path(pet_json)
    mass = None if body_mass is None else value_of(body_mass, "g", f"{path.name}: body_mass")
    how = Reading(blood_decay_corrected=blood_decay_corrected, negative=negative, units=units or {})
    files = [Path(f) for f in blood]
    scan = read_scan(path, None if tacs is None else Path(tacs), files, how, body_mass=mass)
    return curves_of_scan(scan, study=scan.name)


def read_bids(
    folder: str | Path,
    *,
    regions: Mapping[str, str | Sequence[str]] | Sequence[str] | None = None,
    derivatives: str | None = None,
    segmentation: str | None = None,
    subject: str | Sequence[str] | None = None,
    session: str | Sequence[str] | None = None,
    unit: str | None = None,
    units: Units | None = None,
    blood_decay_corrected: bool | None = None,
    negative: Negative = "refuse",
) -> Study:
    """All PET scans of a BIDS folder: one `Curves` per scan, its session the `occasion`.

    Parameters
    ----------
    folder : the folder with ``dataset_description.json`` [text]
    regions : columns of ``*_tacs.tsv``; or name -> columns, averaged by their volumes in ``*_morph.tsv``. Default: all
    derivatives : folder under ``derivatives/``, where several have curves, such as "petprep" [text]
    segmentation : the ``seg-`` of the tables, where a scan has several, such as "gtm" [text]
    subject, session : which scans, with or without ``sub-``, ``ses-``; default all [text]
    unit : bring every curve to it, such as "kBq/mL"; default as the files state them [text]
    units : what the files state wrongly or not at all: ``tissue``, ``plasma_radioactivity``,
        ``whole_blood_radioactivity``, ``InjectedRadioactivity``, ``weight`` -> unit, for all scans, or for one:
        ``{"sub-01_ses-blocked": {"plasma_radioactivity": "kBq/mL"}}`` [text]
    blood_decay_corrected : whether blood values are corrected to injection; must be said where there is blood [bool]
    negative : "refuse" values below zero, "keep" them, or take them as "zero", with a warning that names the rows

    Returns
    -------
    Study

    Raises
    ------
    DataError
        Frames overlap; units cannot be true together; a file is wrong or does not say what is needed. The message names
        the file, the row or frame, and how to say it right.
    """
    root = Path(folder)
    common = {k: v for k, v in (units or {}).items() if isinstance(v, str)}
    per_scan = {k.removesuffix("_pet"): v for k, v in (units or {}).items() if not isinstance(v, str)}
    how = Reading(
        regions=as_regions(regions),
        unit=unit,
        units=common,
        blood_decay_corrected=blood_decay_corrected,
        negative=negative,
    )
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder")
    choice = Choice(
        how=how,
        per_scan=per_scan,
        derivatives=derivatives,
        segmentation=segmentation,
        subjects=None if subject is None else [subject] if isinstance(subject, str) else subject,
        sessions=None if session is None else [session] if isinstance(session, str) else session,
    )
    return study_of_folder(read_folder(root, choice))
