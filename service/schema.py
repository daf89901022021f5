"""What every model of the API shares: the text under a field is its description in the API's document."""

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A model of the API."""

    model_config = ConfigDict(use_attribute_docstrings=True)
