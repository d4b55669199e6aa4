"""Readers: every file format becomes `Curve` records, checked on the way in.

======================  =====================================================================
``curve``               the record itself: one region of one subject, with unit conversion and decay correction
``study_file``          ``study.toml``: what a table cannot say (citation, subjects, regions, published results)
``long_table``          ``tac.csv``: rows to curves, every row checked
``plausibility``        what physics forbids: more activity than was given, tails slower than decay, boxes as organs
``bids``                PET-BIDS, one scan or a whole folder; with ``bids_files``, ``_scan``, ``_units``, ``_folder``
``nonmem``              NONMEM data files: with ``nonmem_table``, ``nonmem_records``, ``nonmem_events``
``nonmem_write``        a study as a NONMEM data file
``kinpar``              ``*_kinpar.tsv``: parameters of regions, with units, model and version beside them
======================  =====================================================================
"""
