"""A pytest plugin: the balanced profile as it is, but for making examples small, which a verdict does not need."""

from hypothesis import Phase, settings

from dataflow.testing.profiles import register_profiles

register_profiles()
settings.register_profile("unshrunk", settings.get_profile("balanced"), phases=[Phase.explicit, Phase.generate])
