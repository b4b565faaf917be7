package dev.toolkit.trainer.store

import org.json.JSONException
import org.json.JSONObject
import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.util.ArrayDeque

private const val CHUNK = 1 shl 18
private const val MAX_LINE = 4 shl 20
private const val MAX_STEPS = 200_000

/** A step as a trace has it; null where the value was not finite. */
data class TraceStep(val step: Long, val loss: Float?, val peakKib: Long, val seconds: Float, val tokens: Long)

/** A pause or continuation, why, and after which step. */
data class TraceEvent(val event: String, val detail: String, val step: Long? = null)

/** What a trace says so far. */
class TraceSummary(
    val steps: List<TraceStep>,
    val events: List<TraceEvent>,
    val evaluations: List<Pair<Long, Float>>,
    val availableKib: Long,
    val temperature: Float?,
    val parameters: Long,
    val endStatus: String?,
    val error: String?,
    /** Bytes of adapter and optimizer state that steps changed on storage; 0 where these are in memory. */
    val stateBytes: Long = 0,
    /** Of the model that it was written with, "" where it begins later. */
    val lowering: String = "",
) {
    val lastStep: TraceStep? get() = steps.lastOrNull { it.loss != null }
    val peakKib: Long get() = steps.maxOfOrNull { it.peakKib } ?: 0

    /** Tokens a second over the last steps, prompts and padding included. */
    val tokensPerSecond: Double? get() {
        val recent = steps.takeLast(10)
        val seconds = recent.sumOf { it.seconds.toDouble() }
        return if (seconds > 0) recent.sumOf { it.tokens } / seconds else null
    }

    val secondsPerStep: Double? get() =
        steps.takeLast(10).map { it.seconds.toDouble() }.takeIf { it.isNotEmpty() }?.average()
}

/**
 * Follows a trace that grows. It reads each byte once, passes over the records of single phases, and bears
 * a torn last line and lines that are no JSON. One thread at a time.
 *
 * @param tail how many of the bytes that are there already to read; a night's trace has many megabytes
 */
class TraceReader(private val file: File, private val tail: Long = Long.MAX_VALUE) {
    private var offset = -1L
    private var partial = ByteArray(0)
    private val steps = ArrayDeque<TraceStep>()
    private val events = ArrayList<TraceEvent>()
    private val evaluations = ArrayList<Pair<Long, Float>>()
    private var availableKib = 0L
    private var temperature: Float? = null
    private var parameters = 0L
    private var endStatus: String? = null
    private var error: String? = null
    private var stateBytes = 0L
    private var lowering = ""

    fun read(): TraceSummary {
        try {
            if (offset < 0) offset = maxOf(0L, file.length() - tail)
            if (file.length() < offset) restart()
            RandomAccessFile(file, "r").use(::follow)
        } catch (_: IOException) {
            // Not there yet, or gone with its run.
        }
        return TraceSummary(
            ArrayList(steps), ArrayList(events), ArrayList(evaluations),
            availableKib, temperature, parameters, endStatus, error, stateBytes, lowering,
        )
    }

    private fun restart() {
        offset = 0
        partial = ByteArray(0)
        steps.clear()
        events.clear()
        evaluations.clear()
        endStatus = null
        error = null
        stateBytes = 0
    }

    private fun follow(source: RandomAccessFile) {
        val chunk = ByteArray(CHUNK)
        source.seek(offset)
        while (true) {
            val count = source.read(chunk)
            if (count <= 0) return
            offset += count
            var begin = 0
            for (i in 0 until count) {
                if (chunk[i] != '\n'.code.toByte()) continue
                take(partial + chunk.copyOfRange(begin, i))
                partial = ByteArray(0)
                begin = i + 1
            }
            if (partial.size + count - begin <= MAX_LINE) partial += chunk.copyOfRange(begin, count)
        }
    }

    private fun take(line: ByteArray) {
        if (line.size < 10 || startsWith(line, "{\"type\":\"phase\"") || startsWith(line, "{\"type\":\"smaps\"")) return
        try {
            val record = JSONObject(String(line, Charsets.UTF_8))
            when (record.getString("type")) {
                "run" -> takeRun(record)
                "step" -> takeStep(record)
                "sample" -> record.optJSONObject("battery")?.let { temperature = number(it, "temperature") ?: temperature }
                "evaluation" -> number(record, "loss")?.let { evaluations += record.getLong("step") to it }
                "event" -> events += TraceEvent(record.getString("event"), record.optString("detail"), steps.peekLast()?.step)
                "end" -> {
                    endStatus = record.getString("status")
                    error = record.optString("error").ifEmpty { null }
                }
            }
        } catch (_: JSONException) {
            // A line that a crash tore apart.
        }
    }

    private fun takeRun(record: JSONObject) {
        endStatus = null
        error = null
        availableKib = record.optJSONObject("device")?.optLong("memory_available_kib") ?: 0
        lowering = record.optString("lowering")
        parameters = record.optJSONObject("bundle")?.optLong("adapter_parameters") ?: 0
    }

    private fun takeStep(record: JSONObject) {
        val step = record.getLong("step")
        // A run that was killed repeats the steps after its last save.
        while ((steps.peekLast()?.step ?: -1) >= step) steps.pollLast()
        while (evaluations.isNotEmpty() && evaluations.last().first >= step) evaluations.removeAt(evaluations.size - 1)
        if (steps.size >= MAX_STEPS) steps.pollFirst()
        stateBytes += record.optLong("state_bytes")
        steps += TraceStep(
            step, number(record, "loss"), record.optLong("peak"),
            number(record, "seconds") ?: 0f, record.optLong("tokens"),
        )
    }

    private fun number(record: JSONObject, name: String): Float? =
        if (record.isNull(name)) null else record.getDouble(name).toFloat()

    private fun startsWith(line: ByteArray, prefix: String): Boolean =
        line.size >= prefix.length && prefix.indices.all { line[it] == prefix[it].code.toByte() }
}
