"""A small job file for tests."""

from typing import Any

from isthmus.base.document import read_document

TEXT = """
apiVersion: isthmus/v1
kind: Job
metadata: {name: card, purpose: "Rank new card applicants by risk"}
parties: {label_owner: bank, feature_owners: [data-co]}
inputs:
  bank: {dataset: apps@1, keys: [[{column: mobile, as: phone-cn}]]}
  data-co: {dataset: risk@1, keys: [[{column: phone, as: phone-cn}]], columns: {exclude: [staff]}}
sample: {label: bad}
"""


def document(**sections: Any) -> dict[str, Any]:
    """The job above with whole sections put in."""
    return read_document(TEXT.encode(), "job.yaml") | sections
