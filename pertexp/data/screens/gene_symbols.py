"""Gene symbols that were renamed: a perturbed gene may be measured under another name than its guide bears."""

# Former symbol or common alias, and the symbol that the HGNC approves: those of published screens and gene lists.
RENAMED = {
    "C19orf26": "CBARP",
    "C3orf72": "FOXL2NB",
    "ELMSAN1": "MIDEAS",
    "FAM64A": "PIMREG",
    "HN1": "JPT1",
    "KIAA1804": "MAP3K21",
    "MARCH8": "MARCHF8",
    "MLF1IP": "CENPU",
    "PDL1": "CD274",
    "PDL2": "PDCD1LG2",
}


def current(symbol: str) -> str:
    """Return the approved symbol of a renamed gene; any other stays as it is."""
    return RENAMED.get(symbol, symbol)
