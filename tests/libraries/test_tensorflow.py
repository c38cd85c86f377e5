"""TensorFlow's register of gradients, which keeps the graph of every model that Keras ever fitted."""

from __future__ import annotations

from memcell.units import MIB
from tests.libraries.fresh import in_fresh_process

QUIET = """
        import os
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
"""


def test_the_graphs_of_fitted_models_come_back_and_a_kept_model_goes_on():
    held, left, loss = in_fresh_process(
        QUIET
        + """
        import numpy, keras
        x, y = numpy.ones((64, 8), "f4"), numpy.ones((64, 1), "f4")
        def fit():
            model = keras.Sequential([keras.layers.Dense(32, activation="relu"), keras.layers.Dense(1)])
            model.compile(optimizer="adam", loss="mse")
            model.fit(x, y, verbose=0)
            return model
        kept = fit()
        for _ in range(3):
            fit()  # the first ones also fill what is filled once
        clean()
        before = process.memory_info().rss
        for _ in range(24):
            model = fit()
        del model
        clean("gc", "trim")
        held = process.memory_info().rss - before
        clean("tensorflow", "trim")
        left = process.memory_info().rss - before
        print(json.dumps([held, left, kept.fit(x, y, verbose=0).history["loss"][0]]))
        """
    )
    assert held >= 64 * MIB
    assert left < held / 2
    assert loss >= 0


def test_gradients_that_a_function_may_still_need_stay():
    registered, gradients = in_fresh_process(
        QUIET
        + """
        import tensorflow
        from tensorflow.python.framework import ops
        @tensorflow.custom_gradient
        def scaled(x):
            def gradient(upstream):
                return upstream * 5.0 if gradient else later
            if False:
                later = None
            return x * 2.0, gradient
        def make():
            return tensorflow.function(lambda x: scaled(x))
        x, kept = tensorflow.constant(3.0), make()
        @tensorflow.function
        def nested(x):
            return tensorflow.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, scaled(a)), (0, x))[1]
        inner = make()
        inner(x)
        calling = tensorflow.function(lambda x, inner=inner: inner(x) + 1.0)
        del inner
        kept(x), nested(x), calling(x)
        for _ in range(20):
            make()(x)
        def registered():
            return sum(name.startswith("CustomGradient-") for name in ops.gradient_registry._registry)
        counts = [registered()]
        clean("tensorflow")
        counts.append(registered())
        gradients = []
        for function in (kept, nested, calling):
            with tensorflow.GradientTape() as tape:
                tape.watch(x)
                result = function(x)
            gradients.append(float(tape.gradient(result, x)))
        print(json.dumps([counts, gradients]))
        """
    )
    assert registered == [23, 3]
    assert gradients == [5.0, 25.0, 5.0]
