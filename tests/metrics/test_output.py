"""The scale of a predicted profile is the declared one, or that of the data."""

from typing import get_args

import pytest

from pertexp.metrics.output import Profile, ProfileScale


@pytest.mark.parametrize("data", get_args(ProfileScale))
@pytest.mark.parametrize("declared", [*get_args(ProfileScale), "as_data"])
def test_a_profile_is_on_its_own_scale_or_on_that_of_the_data(declared, data):
    assert Profile(declared).on(data) == (data if declared == "as_data" else declared)


def test_a_scale_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"a profile cannot be on the scale 'log2': write one of .*as_data"):
        Profile("log2")
