"""Widgets: closed with all that belongs to them, except memcell's own live view and those marked to be kept."""

from __future__ import annotations

from tests.libraries.fresh import in_fresh_process


def test_widgets_are_closed_with_their_layouts_and_styles_only_when_named():
    before, kept, after, freed = in_fresh_process(
        """
        import os
        import ipywidgets
        from ipywidgets.widgets import widget
        for _ in range(32):
            image = ipywidgets.Image(value=os.urandom(3 << 20))
            slider = ipywidgets.IntSlider()
        del image
        before = len(widget._instances)
        clean()
        kept = len(widget._instances)
        freed = clean("ipywidgets")
        print(json.dumps([before, kept, len(widget._instances), freed["ipywidgets"]]))
        """
    )
    assert before == kept >= 32 * 5
    assert after == 0
    assert freed >= 0.95 * 96 * 2**20


def test_the_live_view_and_marked_widgets_stay_open():
    shown, open_widgets = in_fresh_process(
        """
        import ipywidgets
        from ipywidgets.widgets import widget
        from memcell.view.live import LiveView
        pictures = iter(["<svg>1</svg>", "<svg>2</svg>"])
        view = LiveView(lambda: next(pictures))
        dashboard = ipywidgets.Button()
        dashboard.memcell_keep = True
        other = ipywidgets.Button()
        clean("ipywidgets")
        names = sorted(type(one).__name__ for one in widget._instances.values())
        view.draw()
        print(json.dumps([view.widget.value, names]))
        view.close()
        """
    )
    assert shown == "<svg>2</svg>"
    assert open_widgets == ["Button", "ButtonStyle", "HTML", "HTMLStyle", "Layout", "Layout"]


def test_a_widget_whose_close_fails_does_not_save_the_others():
    error, left = in_fresh_process(
        """
        import ipywidgets
        from ipywidgets.widgets import widget
        class Stubborn(ipywidgets.Button):
            def close(self):
                raise OSError("not now")
        stubborn, other = Stubborn(), ipywidgets.Button()
        (outcome,) = runner.clean(["ipywidgets"]).outcomes
        print(json.dumps([outcome.error, [type(one).__name__ for one in widget._instances.values()]]))
        """
    )
    assert error == "OSError: not now"
    assert left == ["Stubborn"]
