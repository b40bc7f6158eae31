"""Replicas of a bundle on Ray Serve, as many as there is work for: BUNDLE LEAST MOST CORES."""

import sys

from ray import serve
from ray.serve.config import AutoscalingConfig
from starlette.applications import Starlette

from vpt_edge.runtime import Pipeline
from vpt_edge.server import Service, Settings, create_app

bundle = sys.argv[1]
least, most, cores = map(int, sys.argv[2:])  # cores of each replica


def build() -> Starlette:
    """The application of one replica, which computes one question after the other."""
    return create_app(Service(lambda: Pipeline(bundle), Settings(model="vpt")))


vision = serve.deployment(
    serve.ingress(build)(),
    name="vision",
    autoscaling_config=AutoscalingConfig(
        min_replicas=least, max_replicas=most, target_ongoing_requests=2
    ),
    max_ongoing_requests=8,
    ray_actor_options={"num_cpus": cores},
)
serve.run(vision.bind(), blocking=True)
