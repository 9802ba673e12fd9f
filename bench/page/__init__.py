"""The report: results as figures and tables on one page."""
