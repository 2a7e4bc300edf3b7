"""Rows: reading, checking and merging preference data into one table."""

from vrm_pyro.data.rows.builder import concatenate, prompt_key
from vrm_pyro.data.rows.counts import RowReport
from vrm_pyro.data.rows.label_check import LabelCheck, check_label_identification
from vrm_pyro.data.rows.load import load_table
from vrm_pyro.data.rows.readers import ReadAs, TableSpec
from vrm_pyro.data.rows.splits import fold_by_prompt, keep_labels, split_by_prompt
from vrm_pyro.data.rows.table import PreferenceTable

__all__ = [
    "LabelCheck",
    "PreferenceTable",
    "ReadAs",
    "RowReport",
    "TableSpec",
    "check_label_identification",
    "concatenate",
    "fold_by_prompt",
    "keep_labels",
    "load_table",
    "prompt_key",
    "split_by_prompt",
]
