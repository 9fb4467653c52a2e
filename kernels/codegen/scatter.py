"""gather and scatter_add: rows by index, and exact sums of the updates that land on a row.

Sums are integers on the row's grid, added by integer atomics: no order can change a bit, so nothing is sorted or
locked. A row's greatest magnitude is stored plus one; 0 means that nothing lands there. On a cpu, where an atomic costs
as much as twenty additions, many updates of few rows go to a few copies of the sums, and long slices are grouped by row
(scatter_rows).
"""

from __future__ import annotations

from typing import Final

from samebits.cas.dtype import FLOATS, numpy_dtype
from samebits.kernels.codegen.ctypes_of import C_TYPES, as_f32, as_f64, element
from samebits.kernels.codegen.folds import Fold, lower_fold, partials, source_parameter
from samebits.kernels.codegen.program import Parameters, ProgramBuilder
from samebits.kernels.codegen.scatter_rows import LEAST_WIDTH, lower_scatter_rows
from samebits.kernels.codegen.slices import Slices, call_chunks, call_each, call_span, dims_of, slices_of
from samebits.kernels.codegen.view import View
from samebits.kernels.codegen.walk import offset_text
from samebits.kernels.sums import sum_precision

GPU_SPAN: Final = 32  # elements of a slice that a work-item takes where only the row's maximum is wanted
COPIES: Final = 8  # of maxima and sums, each for the updates of one work-item of a cpu
UPDATES_PER_ROW: Final = 4  # from here on copies cost less than atomics
SEEN_PER_WORD: Final = 8  # special values of that many elements share a word, 4 bits each


def lower_gather(builder: ProgramBuilder, operand: View, indices: View, out: View, errors: int, code: int) -> None:
    """Append the kernel of out[s, ...] = operand[indices[s], ...]; out: contiguous.

    The first index outside the operand's rows puts `code` and the index (two words, low first) into `errors`.
    """
    slices = slices_of(builder, operand, indices, errors, code)
    if not isinstance(out.source, int):
        raise AssertionError("gather writes to a buffer")
    if slices.count == 0:
        return
    if slices.width == 0:
        call_chunks(builder, "gather_check", slices, slices.read("continue"), slices.parameters())
        return
    kind = C_TYPES[operand.dtype]
    source = element(operand.source, operand.dtype, "x", f"at + {offset_text('w', dims_of(operand, 1))}")
    start = f"i64 at = {operand.offset} + row * ({operand.strides[0]});\n"
    parameters = [*source_parameter(operand), *slices.parameters(), (out.source, f"GLOBAL {kind} *RESTRICT out")]
    width = slices.width
    if builder.layout == "gpu" and width:
        body = f"i64 s = item / {width}, w = item % {width};\n{slices.read('return')}{start}"
        call_each(builder, "gather", slices.count * width, f"{body}out[item] = {source};\n", parameters)
        return
    copy = f"for (i64 w = 0; w < {width}; w++) out[s * {width} + w] = {source};\n"
    call_chunks(builder, "gather", slices, slices.read("continue") + start + copy, parameters)


def lower_scatter(
    builder: ProgramBuilder, indices: View, updates: View, out: View, errors: int, code: int, twice: int
) -> None:
    """Append the kernels that write updates over rows of out, which holds the operand already.

    Errors as for gather; an index that occurs twice puts the code `twice` there.
    """
    slices = slices_of(builder, out, indices, errors, code)
    if slices.count == 0:
        return
    if not isinstance(out.source, int):
        raise AssertionError("scatter writes to a buffer")
    # a bad index is reported before one that occurs twice, as the reference does
    call_chunks(builder, "scatter_check", slices, slices.read("continue"), slices.parameters())
    claims = (builder.buffer(4 * slices.rows), "GLOBAL u32 *RESTRICT claims")
    call_span(builder, "clear", slices.rows, "claims[item] = 0u;\n", [claims])
    rank = len(indices.shape)
    target = f"{offset_text('s', dims_of(updates, 0, rank))} + {offset_text('w', dims_of(updates, rank))}"
    source = element(updates.source, updates.dtype, "updates", f"{updates.offset} + {target}")
    claim = "if (atomic_first_u32(claims + row, 1u) != 0u) {\n" + slices.report(twice) + "\ncontinue;\n}\n"
    copy = f"for (i64 w = 0; w < {slices.width}; w++) out[row * {slices.width} + w] = {source};\n"
    parameters = [
        *source_parameter(updates, "updates"),
        *slices.parameters(),
        claims,
        (out.source, f"GLOBAL {C_TYPES[out.dtype]} *RESTRICT out"),
    ]
    call_chunks(builder, "scatter", slices, slices.read("continue") + claim + copy, parameters)


def lower_scatter_add(
    builder: ProgramBuilder, operand: View, indices: View, updates: View, out: View, errors: int, code: int
) -> None:
    """Append the kernels of out = operand with updates added to the rows that `indices` name; out: contiguous.

    Errors as for gather; updates of a bad index are left out.
    """
    slices = slices_of(builder, operand, indices, errors, code)
    if not isinstance(out.source, int):
        raise AssertionError("scatter_add writes to a buffer")
    if slices.count and not operand.size:
        call_chunks(builder, "scatter_check", slices, slices.read("continue"), slices.parameters())
    if not operand.size:
        return
    if builder.layout == "cpu" and slices.count and operand.dtype in FLOATS and slices.width >= LEAST_WIDTH:
        lower_scatter_rows(builder, slices, operand, updates, out.source)
        return
    scatter = _Scatter(builder, slices, operand, updates, out.source)
    scatter.clear()
    if slices.count:
        if operand.dtype in FLOATS:
            scatter.magnitudes()
        scatter.add()
    scatter.finish()


class _Scatter:
    """The temporaries of one scatter_add, and its steps."""

    def __init__(self, builder: ProgramBuilder, slices: Slices, operand: View, updates: View, out: int) -> None:
        self._builder, self._slices = builder, slices
        self._operand, self._updates, self._out = operand, updates, out
        self._dtype = operand.dtype
        self._float = self._dtype in FLOATS
        self._p = sum_precision(max(slices.count, 1))
        size = operand.size
        self._wide = "u64" if self._float or numpy_dtype(self._dtype).itemsize == 8 else "u32"
        self._sums = (builder.buffer(numpy_dtype(self._wide).itemsize * size), f"GLOBAL {self._wide} *sums")
        self._tops = (builder.buffer(4 * slices.rows), "GLOBAL u32 *tops")
        self._seen_words = -(-size // SEEN_PER_WORD)
        self._seen = (builder.buffer(4 * self._seen_words), "GLOBAL u32 *seens")
        dims = dims_of(updates, len(slices.indices.shape))
        index = f"{updates.offset} + {offset_text('s', dims_of(updates, 0, len(slices.indices.shape)))}"
        self._update = element(updates.source, updates.dtype, "x", f"{index} + {offset_text('w', dims)}")

    @property
    def _copied(self) -> bool:
        """Say whether cpu items work on copies of maxima and sums."""
        few = self._slices.count >= UPDATES_PER_ROW * self._slices.rows
        return self._float and few and self._builder.layout == "cpu"

    def clear(self) -> None:
        """Set the temporaries to zero."""
        if self._copied:
            self._clear_seen()
            return
        used = [self._sums, self._tops, self._seen] if self._float else [self._sums]
        sizes = [self._operand.size, self._slices.rows, self._seen_words]
        for (buffer, text), size in zip(used, sizes, strict=False):
            name = text.rsplit("*", 1)[1]
            body = f"{name}[item] = 0;\n"
            call_span(self._builder, "clear", size, body, [(buffer, text)])

    def _clear_seen(self) -> None:
        call_span(self._builder, "clear", self._seen_words, "seens[item] = 0;\n", [self._seen])

    def _add_up_copies(self, name: str, size: int, fold: Fold, body: str, parameters: Parameters, total: int) -> None:
        """Append the kernel whose items each run `body` for their slices on a cleared copy of `name`, and the fold."""
        bytes_each = numpy_dtype(fold.kind).itemsize
        each = -(-self._slices.count // COPIES)
        items = -(-self._slices.count // each)  # fewer than COPIES where these do not come out even
        copies = (self._builder.buffer(items * size * bytes_each), f"GLOBAL {fold.kind} *RESTRICT all")
        start = f"GLOBAL {fold.kind} *RESTRICT {name} = all + ITEM * {size};\n"
        start += f"for (i64 i = 0; i < {size}; i++) {name}[i] = 0;\n"
        call_chunks(self._builder, f"scatter_{name}", self._slices, body, [*parameters, copies], each, start)
        parts = partials(copies[0], fold.kind, items, size)
        lower_fold(self._builder, fold, parts, (0,), total, fold.kind)

    def magnitudes(self) -> None:
        """Find the greatest finite magnitude that lands on each row, plus one."""
        slices = self._slices
        value = as_f32(self._dtype, self._update)
        parameters = [*source_parameter(self._updates), *slices.parameters(), self._tops]
        seek = f"u32 m = finite_magnitude_f32({value}); top = m > top ? m : top;"
        # tops only grow: where the one read is great enough already, the atomic can be left out
        keep = "if (top + 1u > tops[row]) atomic_max_u32(tops + row, top + 1u);\n"
        if self._builder.layout == "gpu":
            parts = -(-slices.width // GPU_SPAN)
            body = f"i64 s = item / {parts}, first = item % {parts} * {GPU_SPAN};\n{slices.read('return')}"
            body += f"i64 last = first + {GPU_SPAN} < {slices.width} ? first + {GPU_SPAN} : {slices.width};\n"
            body += f"u32 top = 0u;\nfor (i64 w = first; w < last; w++) {{ {seek} }}\n{keep}"
            call_each(self._builder, "scatter_magnitudes", slices.count * parts, body, parameters)
            return
        body = f"{slices.read('continue')}u32 top = 0u;\nfor (i64 w = 0; w < {slices.width}; w++) {{ {seek} }}\n"
        if self._copied:
            body += "tops[row] = top + 1u > tops[row] ? top + 1u : tops[row];\n"
            fold = Fold("u32", "0u", "max", "VALUE")
            self._add_up_copies("tops", slices.rows, fold, body, parameters[:-1], self._tops[0])
            return
        body += keep
        call_chunks(self._builder, "scatter_magnitudes", slices, body, parameters)

    def add(self) -> None:
        """Add the updates to the sums."""
        slices, width = self._slices, self._slices.width
        parameters = [*source_parameter(self._updates), *slices.parameters(), self._sums]
        place = f"row * {width} + w"
        if self._float:
            parameters += [self._tops, self._seen]
            write = f"sums[{place}] += {{}};" if self._copied else f"atomic_add_u64(sums + ({place}), {{}});"
            start = f"f64 scale = pow2_f64({self._p} - grid_exponent(tops[row] - 1u));\n"
            word = f"seens + (({place}) / {SEEN_PER_WORD}), seen << (4 * (({place}) % {SEEN_PER_WORD}))"
            step = f"f32 v = {as_f32(self._dtype, self._update)}; u32 seen = seen_f32(v);\n"
            step += f"if (seen != 0u) {{ atomic_or_u32({word}); }}\n"
            step += f"else {write.format('on_grid(v, scale) - (u64)MAGIC_BITS')}\n"
        else:
            start = ""
            step = f"atomic_add_{self._wide}(sums + ({place}), ({self._wide}){self._update});\n"
        if self._builder.layout == "gpu":
            body = f"i64 s = item / {width}, w = item % {width};\n{slices.read('return')}{start}{step}"
            call_each(self._builder, "scatter", slices.count * width, body, parameters)
            return
        body = f"{slices.read('continue')}{start}for (i64 w = 0; w < {width}; w++) {{\n{step}}}\n"
        if self._copied:
            used = [each for each in parameters if each != self._sums]
            fold = Fold("u64", "0", "add", "VALUE")
            self._add_up_copies("sums", self._operand.size, fold, body, used, self._sums[0])
            return
        call_chunks(self._builder, "scatter", slices, body, parameters)

    def finish(self) -> None:
        """Add each sum, rounded once, to the operand's element; rows without updates keep their bits."""
        kind = C_TYPES[self._dtype]
        at = f"{self._operand.offset} + {offset_text('item', dims_of(self._operand))}"
        old = element(self._operand.source, self._dtype, "x", at)
        parameters = [*source_parameter(self._operand), (self._out, f"GLOBAL {kind} *RESTRICT out"), self._sums]
        if not self._float:
            call_span(
                self._builder,
                "scatter_finish",
                self._operand.size,
                f"out[item] = ({kind})({old} + sums[item]);\n",
                parameters,
            )
            return
        parameters += [self._tops, self._seen]
        total = f"round_{self._dtype}(sum_value((i64)sums[item], pow2_f64(grid_exponent(top - 1u) - {self._p}), seen))"
        body = f"u32 top = tops[item / {self._slices.width}];\n"
        body += f"u32 seen = seens[item / {SEEN_PER_WORD}] >> (4 * (item % {SEEN_PER_WORD})) & 7u;\n"
        body += f"{kind} old = {old}, total = {total};\n"
        body += f"{kind} sum = round_{self._dtype}({as_f64(self._dtype, 'old')} + {as_f64(self._dtype, 'total')});\n"
        body += "out[item] = top == 0u ? old : sum;\n"
        call_span(self._builder, "scatter_finish", self._operand.size, body, parameters)
