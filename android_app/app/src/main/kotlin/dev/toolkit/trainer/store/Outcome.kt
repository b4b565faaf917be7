package dev.toolkit.trainer.store

import org.json.JSONObject

/**
 * What a run has brought: the loss before and at its best, in nats per token, how much a text surprises the model.
 *
 * @property heldOut whether on text that it did not learn from
 */
data class Outcome(val before: Double, val after: Double, val bestStep: Long, val heldOut: Boolean) {
    /** By how much less the texts surprise the model. */
    val percent: Int get() = Math.round(100 * (1 - after / before)).toInt()

    fun json(): JSONObject = JSONObject().put("before", before).put("after", after).put("best_step", bestStep).put("held_out", heldOut)

    companion object {
        private const val STEPS = 10

        fun of(json: JSONObject) =
            Outcome(json.getDouble("before"), json.getDouble("after"), json.getLong("best_step"), json.getBoolean("held_out"))

        /** By held-out text where there are two evaluations, else by what it learned from; null when that says nothing. */
        fun of(trace: TraceSummary): Outcome? {
            val evaluations = trace.evaluations
            if (evaluations.size > 1) {
                val best = evaluations.minBy { it.second }
                return Outcome(evaluations.first().second.toDouble(), best.second.toDouble(), best.first, true).takeIf { it.before > 0 }
            }
            val losses = trace.steps.mapNotNull { it.loss }
            if (losses.size < 2) return null
            val some = minOf(STEPS, losses.size / 2)
            return Outcome(losses.take(some).average(), losses.takeLast(some).average(), trace.steps.last().step, false).takeIf { it.before > 0 }
        }
    }
}
