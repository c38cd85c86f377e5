"""What IPython's completion and tracebacks keep."""

from __future__ import annotations

from tests.libraries.fresh import in_fresh_process


def test_jedi_forgets_what_it_parsed_and_reads_it_again_from_disk(tmp_path):
    parsed, files, completions = in_fresh_process(
        f"""
        from pathlib import Path
        import jedi
        from parso.cache import parser_cache
        jedi.settings.cache_directory = Path({str(tmp_path)!r})
        def complete():
            return len(jedi.Interpreter("json.dec", [{{"json": json}}]).complete())
        def parsed():
            return sum(len(modules) for modules in parser_cache.values())
        def files():
            return sorted(str(path) for path in Path({str(tmp_path)!r}).rglob("*.pkl"))
        first = complete()
        counts, on_disk = [parsed()], files()
        clean("jedi")
        counts.append(parsed())
        print(json.dumps([counts, [len(on_disk), files() == on_disk], [first, complete()]]))
        """
    )
    assert parsed[0] > 0
    assert parsed[1] == 0
    assert files[0] > 0
    assert files[1], "the cleaner must leave the files alone"
    assert completions[0] == completions[1] > 0


def test_the_trees_of_tracebacks_are_gone_and_the_next_traceback_is_whole():
    trees, freed, shown = in_fresh_process(
        """
        import ast, contextlib, gc, io, re
        from pathlib import Path
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        source = "def fail():\\n    return 1 / 0\\n" + "".join(f"value_{i} = [{i}, {i} + 1]\\n" for i in range(60_000))
        def fail():
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                shell.run_cell("module.fail()")
            shell.InteractiveTB.tb = shell.last_execution_result = None
            sys.last_value = sys.last_traceback = sys.last_exc = None
            return "return 1 / 0" in re.sub(r"\\x1b\\[[0-9;]*m", "", output.getvalue())
        def trees():
            gc.collect()
            return sum(isinstance(item, ast.Assign) for item in gc.get_objects())
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "long.py").write_text(source)
            sys.path.insert(0, folder)
            import long as module
            shell.user_ns["module"] = module
            shown = [fail()]
            counts = [trees()]
            freed = clean("executing")
            counts.append(trees())
            shown.append(fail())
        print(json.dumps([counts, freed["executing"], shown]))
        """
    )
    assert trees[0] >= 60_000
    assert trees[1] < 1_000
    assert freed >= 64 * 2**20
    assert shown == [True, True]
