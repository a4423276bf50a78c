"""The report of a trace: one HTML file that opens offline."""

from symfx.html_report.page import report_page, write_report

__all__ = ["report_page", "write_report"]
