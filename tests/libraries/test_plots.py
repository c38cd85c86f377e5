"""Bokeh's document and PyVista's plotters, both of which keep every plot of every run."""

from __future__ import annotations

from memcell.units import MIB
from tests.libraries.fresh import in_fresh_process


def test_bokeh_begins_a_new_document_and_leaves_the_rest_as_it_was():
    roots, freed, again, settings = in_fresh_process(
        """
        import numpy
        from bokeh.io import curdoc
        from bokeh.io.state import curstate
        from bokeh.plotting import figure
        curstate().output_notebook()
        curdoc().theme = "dark_minimal"
        theme = curdoc().theme
        data = numpy.random.rand(200_000)
        def plot():
            plot = figure()
            plot.scatter(data.copy(), data.copy())
            curdoc().add_root(plot)
            return plot
        for _ in range(32):
            last = plot()
        clean()
        roots = [len(curdoc().roots)]
        freed = clean("bokeh")
        roots.append(len(curdoc().roots))
        curdoc().add_root(last)
        print(json.dumps([roots, freed["bokeh"], len(curdoc().roots),
            [curstate().notebook, curdoc().theme is theme]]))
        """
    )
    assert roots == [32, 0]
    assert freed >= 0.9 * 31 * 2 * 200_000 * 8
    assert again == 1, "a plot that the user still has can be added to the new document"
    assert settings == [True, True]


def test_pyvista_closes_its_plotters():
    plotters, freed, again = in_fresh_process(
        """
        import os
        os.environ.pop("DISPLAY", None)
        import pyvista
        from pyvista.plotting import plotter
        mesh = pyvista.Sphere(theta_resolution=300, phi_resolution=300)
        for _ in range(12):
            scene = pyvista.Plotter(off_screen=True)
            scene.add_mesh(mesh.copy())
        clean()
        plotters = [len(plotter._ALL_PLOTTERS)]
        freed = clean("pyvista")
        plotters.append(len(plotter._ALL_PLOTTERS))
        scene = pyvista.Plotter(off_screen=True)
        scene.add_mesh(mesh)
        again = len(plotter._ALL_PLOTTERS)
        scene.close()
        print(json.dumps([plotters, freed["pyvista"], again]))
        """
    )
    assert plotters == [12, 0]
    assert freed >= 64 * MIB
    assert again == 1
