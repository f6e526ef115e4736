"""What a Python thread remembers of its calls: many small ones, few large ones."""

from __future__ import annotations

import threading

import numpy as np

import fastmeta as fm
from fastmeta_kernels.cpu.execution import call


def test_many_small_calls_are_remembered_and_few_large_ones():
    net, tasks, kept = fm.MLP((1, 40, 40, 1)), fm.tasks.Sinusoid(), []
    theta = net.init(0)

    def work():
        for samples in range(1, call.MOST + 5):
            fm.loss(net, theta, np.ones((samples, 1)), np.ones((samples, 1)))
        kept.append(len(call._local.calls))
        for count in range(600, 600 + 2 * call.FEW):  # 4 MB of sums each
            fm.meta_gradient(net, theta, tasks.sample(count, seed=0), each_task=True)
        kept.append(len(call._local.calls))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert kept == [call.MOST, call.FEW]
