package dev.toolkit.trainer.store

import android.content.Context
import dev.toolkit.trainer.engine.Progress
import org.json.JSONObject

/** What a sequence of so many tokens costs with a model on this phone, measured in a step of [sequences]. */
data class Cost(val secondsPerSequence: Double, val sequences: Int) {
    fun json(): JSONObject = JSONObject().put("seconds", secondsPerSequence).put("sequences", sequences)
}

/** What a run will hold, as the engine says before it computes anything: memory, and files while it saves, its trace left out. */
class Needs(
    val peakBytes: Long,
    /** Of the peak what the app does not have already. */
    val moreBytes: Long,
    val storageBytes: Long,
) {
    companion object {
        /** @param child whether the engine that says so runs in a process of its own */
        fun of(json: JSONObject, child: Boolean): Needs {
            val peak = json.getLong("peak_bytes")
            val there = if (child) 0 else json.getJSONObject("memory").getLong("runtime")
            return Needs(peak, peak - there, json.getLong("storage_bytes"))
        }
    }
}

/** What a run will take; time and battery from steps that were measured. */
class Estimate(val seconds: Double, val batteryPercent: IntRange)

/** Remembers what training costs on this phone, from trials and from runs. */
class Estimates(context: Context) {
    private val preferences = context.getSharedPreferences("costs", Context.MODE_PRIVATE)

    /**
     * Of the smallest steps measured that have as many sequences or more. Null also where only smaller ones were: with more in a
     * step the inputs of all layers may have to wait in a file.
     */
    fun find(bundle: Bundle, length: Int, sequences: Int): Cost? = preferences.all.filterKeys { it.startsWith(key(bundle, length)) }.values
        .map { JSONObject(it as String).run { Cost(getDouble("seconds"), getInt("sequences")) } }
        .filter { it.sequences >= sequences }.minByOrNull { it.sequences }

    /** Takes what a step of [sequences] sequences took. */
    fun learn(bundle: Bundle, length: Int, sequences: Int, progress: Progress) {
        if (progress.seconds <= 0 || sequences <= 0) return
        preferences.edit().putString(key(bundle, length) + sequences, Cost(progress.seconds / sequences, sequences).json().toString()).apply()
    }

    fun forget() = preferences.edit().clear().apply()

    private fun key(bundle: Bundle, length: Int) = "${bundle.name} ${bundle.bytes} $length "

    companion object {
        /** A forward pass against a whole step: two of the three passes and the recomputed one are not in it. */
        private const val EVALUATION_SHARE = 0.3

        /** Percent of a phone's battery that an hour of all fast cores takes, at least and at most. */
        private val PERCENT_AN_HOUR = 15..35

        fun of(settings: RunSettings, data: DataSet, cost: Cost): Estimate {
            val evaluations = if (!data.hasValidation) 0 else 1 + if (settings.evalEvery > 0) settings.steps / settings.evalEvery else 1
            val sequences = settings.steps.toDouble() * settings.gradientAccumulation + EVALUATION_SHARE * evaluations * data.validationSequences
            val seconds = sequences * cost.secondsPerSequence
            val hours = seconds / 3600
            return Estimate(
                seconds,
                (PERCENT_AN_HOUR.first * hours).toInt().coerceAtMost(100)..(PERCENT_AN_HOUR.last * hours).toInt().coerceIn(1, 100),
            )
        }

        /** Bytes of a run's trace. */
        fun traceBytes(settings: RunSettings): Long = settings.steps * if (settings.trace == "full") 40_000L else 300L
    }
}
