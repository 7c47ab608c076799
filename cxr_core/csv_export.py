"""Tables as CSV that a spreadsheet opens without taking a cell for a formula."""

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # OWASP, "CSV Injection"


def csv(table: pd.DataFrame) -> bytes:
    """The table as UTF-8 CSV with six significant digits; texts that look like formulas get an apostrophe in front.

    Numbers stay as they are, so that a negative one can still be computed with.
    """
    safe = table.rename(columns=_harmless)
    for column in range(safe.shape[1]):
        if not pd.api.types.is_numeric_dtype(safe.dtypes.iloc[column]):
            safe.isetitem(column, safe.iloc[:, column].map(_harmless).to_numpy())
    return safe.to_csv(index=False, float_format="%.6g").encode()


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
