package dev.toolkit.trainer.ui

import android.content.Context
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.DashPathEffect
import android.graphics.Paint
import android.graphics.Path
import android.util.AttributeSet
import android.util.TypedValue
import android.view.View
import dev.toolkit.trainer.R
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.log10
import kotlin.math.max
import kotlin.math.min
import kotlin.math.pow

/**
 * A line over steps, with an optional budget as a dashed line and a mark at the highest point. What it shows is
 * said in its content description, which the screen sets.
 */
class ChartView @JvmOverloads constructor(context: Context, attributes: AttributeSet? = null) : View(context, attributes) {
    var lineColor: Int = Color.BLACK
    var fromZero = false
    var markHighest = false
    var budgetLabel = ""
    var format: (Float) -> String = { it.toString() }

    private var steps = LongArray(0)
    private var values = FloatArray(0)
    private var budget: Float? = null
    private val density = resources.displayMetrics.density
    private val line = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        style = Paint.Style.STROKE
        strokeWidth = 2 * density
        strokeJoin = Paint.Join.ROUND
        strokeCap = Paint.Cap.ROUND
    }
    private val fill = Paint(Paint.ANTI_ALIAS_FLAG)
    private val grid = Paint().apply {
        color = context.getColor(R.color.chart_grid)
        strokeWidth = density
    }
    private val dashes = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        style = Paint.Style.STROKE
        color = context.getColor(R.color.chart_budget)
        strokeWidth = 1.5f * density
        pathEffect = DashPathEffect(floatArrayOf(6 * density, 4 * density), 0f)
    }
    private val label = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = context.getColor(R.color.text_quiet)
        textSize = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_SP, 12f, resources.displayMetrics)
    }
    private val path = Path()

    /** Shows values over ascending steps; [budget] is drawn only when it does not flatten the line. */
    fun show(steps: LongArray, values: FloatArray, budget: Float? = null) {
        this.steps = steps
        this.values = values
        this.budget = budget
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        if (values.isEmpty()) {
            drawEmpty(canvas)
            return
        }
        val highest = values.max()
        val scale = Scale.of(if (fromZero) 0f else values.min(), max(highest, drawnBudget(highest) ?: highest))
        val frame = frame(scale)
        drawGrid(canvas, frame, scale)
        drawLine(canvas, frame, scale)
        drawBudget(canvas, frame, scale, highest)
        if (markHighest) drawHighest(canvas, frame, scale, highest)
    }

    /** A budget far above the line would press it to the bottom; it is then named, not drawn. */
    private fun drawnBudget(highest: Float): Float? = budget?.takeIf { it <= highest * 4 }

    private fun frame(scale: Scale): FloatArray {
        val widest = scale.ticks().maxOf { label.measureText(format(it)) }
        val top = if (budget != null) label.textSize * 1.8f else label.textSize * 0.7f
        return floatArrayOf(widest + 8 * density, top, width - 6 * density, height - label.textSize * 1.8f)
    }

    private fun drawEmpty(canvas: Canvas) {
        label.textAlign = Paint.Align.CENTER
        canvas.drawText(context.getString(R.string.chart_empty), width / 2f, height / 2f, label)
    }

    private fun drawGrid(canvas: Canvas, frame: FloatArray, scale: Scale) {
        label.textAlign = Paint.Align.RIGHT
        label.color = context.getColor(R.color.text_quiet)
        for (tick in scale.ticks()) {
            val y = scale.y(tick, frame)
            canvas.drawLine(frame[0], y, frame[2], y, grid)
            canvas.drawText(format(tick), frame[0] - 6 * density, y + label.textSize * 0.35f, label)
        }
        val base = height - label.textSize * 0.3f
        val alone = steps.size < 2
        label.textAlign = if (alone) Paint.Align.CENTER else Paint.Align.LEFT
        val first = "${context.getString(R.string.chart_axis)} ${Numbers.count(steps.first())}"
        canvas.drawText(first, if (alone) x(0, frame) else frame[0], base, label)
        if (alone) return
        label.textAlign = Paint.Align.RIGHT
        canvas.drawText(Numbers.count(steps.last()), frame[2], base, label)
    }

    /** At most one point a pixel column: its mean line, which keeps long runs legible and fast. */
    private fun drawLine(canvas: Canvas, frame: FloatArray, scale: Scale) {
        path.rewind()
        val columns = max(2, (frame[2] - frame[0]).toInt())
        val bucket = max(1, ceil(values.size / columns.toDouble()).toInt())
        var lastX = frame[0]
        var begin = 0
        while (begin < values.size) {
            val end = min(values.size, begin + bucket)
            // Peaks must not vanish from a chart of peaks.
            var value = values[begin]
            for (i in begin until end) value = if (markHighest) max(value, values[i]) else value + (values[i] - value) / (i - begin + 1)
            lastX = x((begin + end - 1) / 2, frame)
            if (begin == 0) path.moveTo(lastX, scale.y(value, frame)) else path.lineTo(lastX, scale.y(value, frame))
            begin = end
        }
        line.color = lineColor
        fill.color = lineColor
        canvas.drawPath(path, line)
        if (values.size == 1) canvas.drawCircle(lastX, scale.y(values[0], frame), 3.5f * density, fill)
    }

    private fun drawHighest(canvas: Canvas, frame: FloatArray, scale: Scale, highest: Float) {
        val peak = x(values.indices.first { values[it] == highest }, frame)
        val y = scale.y(highest, frame)
        canvas.drawCircle(peak, y, 4 * density, fill)
        val words = format(highest)
        val half = label.measureText(words) / 2
        label.textAlign = Paint.Align.CENTER
        val above = y - 9 * density
        val budgetLine = drawnBudget(highest)?.let { scale.y(it, frame) }
        val crowded = above - label.textSize < frame[1] || budgetLine != null && budgetLine in above - label.textSize * 1.2f..y
        val at = peak.coerceIn(frame[0] + half, max(frame[0] + half, frame[2] - half))
        val base = if (crowded) y + label.textSize + 9 * density else above
        // Lines of the grid must not run through it.
        label.style = Paint.Style.STROKE
        label.strokeWidth = 4 * density
        label.color = context.getColor(R.color.surface)
        canvas.drawText(words, at, base, label)
        label.style = Paint.Style.FILL
        label.color = lineColor
        canvas.drawText(words, at, base, label)
    }

    private fun drawBudget(canvas: Canvas, frame: FloatArray, scale: Scale, highest: Float) {
        val value = budget ?: return
        label.color = context.getColor(R.color.chart_budget)
        label.textAlign = Paint.Align.RIGHT
        canvas.drawText(budgetLabel, frame[2], label.textSize, label)
        if (drawnBudget(highest) == null) return
        val y = scale.y(value, frame)
        path.rewind()
        path.moveTo(frame[0], y)
        path.lineTo(frame[2], y)
        canvas.drawPath(path, dashes)
    }

    private fun x(index: Int, frame: FloatArray): Float {
        val span = (steps.last() - steps.first()).toFloat()
        val share = if (span > 0) (steps[index] - steps.first()) / span else 0.5f
        return frame[0] + share * (frame[2] - frame[0])
    }

    companion object {
        private const val MOST_ROWS = 12

        /** Which points a table of so many has: the first and the last, and some evenly between. */
        fun rows(count: Int): List<Int> =
            if (count <= MOST_ROWS) List(count) { it } else List(MOST_ROWS) { (it.toLong() * (count - 1) / (MOST_ROWS - 1)).toInt() }
    }

    /** Round numbers around the values. */
    private class Scale(val low: Float, val high: Float, val tick: Float) {
        fun ticks(): List<Float> = List(((high - low) / tick + 0.5f).toInt() + 1) { low + it * tick }

        fun y(value: Float, frame: FloatArray): Float = frame[3] - (value - low) / (high - low) * (frame[3] - frame[1])

        companion object {
            fun of(low: Float, high: Float): Scale {
                val span = max(high - low, max(kotlin.math.abs(high) * 0.02f, 1e-6f))
                val rough = span / 4
                val power = 10.0.pow(floor(log10(rough.toDouble())))
                val tick = (listOf(1, 2, 5, 10).first { it * power >= rough * 0.999 } * power).toFloat()
                val first = floor(low / tick) * tick
                return Scale(first, first + ceil((low + span - first) / tick - 1e-4f) * tick, tick)
            }
        }
    }
}
