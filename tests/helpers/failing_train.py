"""``vrm-pyro train`` that goes wrong in the third step of its second process."""

import os
import signal
import sys

from vrm_pyro.cli import main
from vrm_pyro.errors import InputError
from vrm_pyro.training.trainer import ModelTrainer

KIND = os.environ["FAILS_BY"]
step = ModelTrainer.training_step


def fail(self, *arguments, **settings):
    if self.state.global_step == 2 and os.environ["RANK"] == "1":
        if KIND == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if KIND == "term":
            signal.raise_signal(signal.SIGTERM)
        else:
            raise InputError("something is wrong here.")
    return step(self, *arguments, **settings)


ModelTrainer.training_step = fail
sys.exit(main(["train", *sys.argv[1:]]))
