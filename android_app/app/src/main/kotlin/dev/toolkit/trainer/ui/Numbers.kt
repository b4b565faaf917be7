package dev.toolkit.trainer.ui

import android.content.Context
import android.text.format.DateFormat
import android.text.format.DateUtils
import java.text.NumberFormat
import java.util.Calendar
import java.util.Locale
import kotlin.math.abs
import kotlin.math.roundToLong

/** Numbers as people read them; one way everywhere in the app. */
object Numbers {
    fun count(value: Long): String = String.format(Locale.getDefault(), "%,d", value)

    fun loss(value: Double): String = if (value.isFinite()) String.format(Locale.getDefault(), "%.3f", value) else "–"

    fun loss(value: Float?): String = if (value == null) "–" else loss(value.toDouble())

    /** Of a chart's axis, whose values are round. */
    fun axis(value: Float): String = NumberFormat.getInstance().apply {
        isGroupingUsed = false
        maximumFractionDigits = 3
    }.format(value)

    /** Learning rates: 1e-4, 2.5e-5. */
    fun rate(value: Double): String {
        val (digits, exponent) = String.format(Locale.ROOT, "%.2e", value).split('e')
        return "${digits.trimEnd('0').trimEnd('.')}e${exponent.toInt()}"
    }

    /** What was written in a field, with the digits and signs that numbers are read in. */
    fun plain(text: String): String = text.trim().map { c ->
        when (c) {
            '\u066b', ',' -> '.'
            '\u2212' -> '-'
            else -> c.digitToIntOrNull()?.digitToChar() ?: c
        }
    }.joinToString("")

    /** Decimal units, as phones show storage and memory. */
    fun bytes(value: Long): String {
        var scaled = value.toDouble()
        var unit = 0
        while (abs(scaled) >= 999.5 && unit < UNITS.size - 1) {
            scaled /= 1000
            unit++
        }
        val digits = if (unit == 0 || scaled >= 99.95) 0 else 1
        return String.format(Locale.getDefault(), "%.${digits}f\u00A0%s", scaled, UNITS[unit])
    }

    fun perSecond(value: Double): String =
        String.format(Locale.getDefault(), if (value >= 10) "%,.0f" else "%.1f", value)

    fun celsius(value: Float): String = String.format(Locale.getDefault(), "%.0f °C", value)

    /** Of a step: 3 ms, 1.6 s, 85 s. */
    fun seconds(value: Double): String =
        if (value < 0.1) String.format(Locale.getDefault(), "%.0f ms", value * 1000)
        else String.format(Locale.getDefault(), if (value < 1) "%.2f s" else if (value < 20) "%.1f s" else "%.0f s", value)

    /** 45 s, 12 min, 3 h 20 min. */
    fun duration(seconds: Double): String {
        val whole = seconds.roundToLong()
        return when {
            whole < 90 -> "${count(whole)} s"
            whole < 90 * 60 -> "${count((whole + 30) / 60)} min"
            else -> "${count(whole / 3600)} h ${count(whole % 3600 / 60)} min"
        }
    }

    /** "06:40" of today and the night to come, else with the day. */
    fun moment(context: Context, milliseconds: Long): String {
        val soon = abs(milliseconds - System.currentTimeMillis()) < SOON_MILLISECONDS
        val day = if (soon) 0 else DateUtils.FORMAT_SHOW_WEEKDAY or DateUtils.FORMAT_ABBREV_WEEKDAY or
            DateUtils.FORMAT_SHOW_DATE or DateUtils.FORMAT_NUMERIC_DATE
        return DateUtils.formatDateTime(context, milliseconds, DateUtils.FORMAT_SHOW_TIME or day)
    }

    /** Of a minute since midnight. */
    fun clock(context: Context, minute: Int): String {
        val day = Calendar.getInstance().apply { set(2000, 0, 1, minute / 60, minute % 60) }
        return DateFormat.getTimeFormat(context).format(day.time)
    }

    private const val SOON_MILLISECONDS = 20L * 3600 * 1000
    private val UNITS = listOf("B", "kB", "MB", "GB")
}
