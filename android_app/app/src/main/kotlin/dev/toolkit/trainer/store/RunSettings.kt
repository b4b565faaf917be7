package dev.toolkit.trainer.store

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import org.json.JSONObject

/** Up to so many steps a trace has their phases and samples, in some megabytes. */
private const val FULL_TRACE_STEPS = 100

/** Settings of a run, the trainer's options under its names; null leaves the engine's default. */
data class RunSettings(
    val steps: Int,
    val learningRate: Double = 1e-4,
    val optimizer: String = "adamw",
    val gradientAccumulation: Int = 1,
    val schedule: String = "constant",
    val warmupSteps: Int = 0,
    val seed: Long = 0,
    val order: String = "shuffled",
    /** Of products with quantized weights; fixed16 is faster and rounds a little more. */
    val arithmetic: String = "float32",
    /** Steps between saves; null leaves it to the engine, which saves by time, too, and spares the flash. */
    val saveEvery: Int? = null,
    val threads: Int = 0,
    /** The gradient is clipped to this norm; 0: it is not. All of it is then kept until the step's end. */
    val maxGradNorm: Double = 0.0,
    /** Steps between evaluations on held-out text; 0: before the first step and after the last. */
    val evalEvery: Int = 0,
    /** Evaluations in a row without a new best one that end the run; 0: none do. */
    val patience: Int = 0,
    /** "best" keeps the adapter of the lowest held-out loss as well. */
    val keep: String = "last",
    /** How many of the last saves keep their adapter, to go back to. */
    val keepCheckpoints: Int = 0,
    /** Phases and samples of every step, or steps only: the first takes about 40 KB of storage a step. */
    val trace: String = if (steps <= FULL_TRACE_STEPS) "full" else "steps",
) {
    override fun toString() = options().toString()

    fun options(): Map<String, String> = listOfNotNull(
        "steps" to steps.toString(),
        "lr" to learningRate.toString(),
        "optimizer" to optimizer,
        "grad-accum" to gradientAccumulation.toString(),
        "schedule" to schedule,
        "warmup-steps" to warmupSteps.toString(),
        "seed" to seed.toString(),
        "order" to order,
        "arithmetic" to arithmetic,
        saveEvery?.let { "save-every" to it.toString() },
        maxGradNorm.takeIf { it > 0 }?.let { "max-grad-norm" to it.toString() },
        evalEvery.takeIf { it > 0 }?.let { "eval-every" to it.toString() },
        patience.takeIf { it > 0 }?.let { "patience" to it.toString() },
        keep.takeIf { it != "last" }?.let { "keep" to it },
        keepCheckpoints.takeIf { it > 0 }?.let { "keep-checkpoints" to it.toString() },
        "trace" to trace,
    ).toMap()

    /** @throws AppException a value that the engine would refuse */
    fun check(): RunSettings {
        fun need(valid: Boolean, what: String, field: String = "") {
            if (!valid) throw AppException(what, field = field)
        }
        need(steps in 1..10_000_000, Words.of(R.string.check_steps), "steps")
        need(learningRate > 0 && learningRate <= 1, Words.of(R.string.check_rate), "lr")
        need(gradientAccumulation in 1..10_000, Words.of(R.string.check_accumulation), "grad-accum")
        need(optimizer in OPTIMIZERS, Words.of(R.string.check_optimizer, OPTIMIZERS.joinToString()))
        need(schedule in SCHEDULES, Words.of(R.string.check_schedule, SCHEDULES.joinToString()))
        need(order in ORDERS, Words.of(R.string.check_order, ORDERS.joinToString()))
        need(arithmetic in ARITHMETICS, Words.of(R.string.check_arithmetic, ARITHMETICS.joinToString()))
        need(warmupSteps in 0..steps, Words.of(R.string.check_warmup))
        need(saveEvery == null || saveEvery in 0..1_000_000, Words.of(R.string.check_saves))
        need(trace in TRACES, Words.of(R.string.check_trace, TRACES.joinToString()))
        need(threads in 0..256, Words.of(R.string.check_threads))
        need(seed >= 0, Words.of(R.string.check_seed))
        return this
    }

    /** With a warm-up that is not longer than the run. */
    fun fitted() = copy(warmupSteps = warmupSteps.coerceAtMost(steps.coerceAtLeast(0)), trace = RunSettings(steps).trace)

    fun json(): JSONObject = JSONObject(options() as Map<*, *>).put("threads", threads)

    companion object {
        val OPTIMIZERS = listOf(
            "adamw", "adamw-8bit", "apollo", "apollo-mini", "mlorc", "lion", "adalomo", "lomo", "sgd",
        )
        val SCHEDULES = listOf("constant", "linear", "cosine")
        val TRACES = listOf("full", "steps")
        val ORDERS = listOf("shuffled", "sequential")
        val ARITHMETICS = listOf("float32", "fixed16")

        fun of(json: JSONObject) = RunSettings(
            steps = json.getInt("steps"),
            learningRate = json.getDouble("lr"),
            optimizer = json.getString("optimizer"),
            gradientAccumulation = json.getInt("grad-accum"),
            schedule = json.getString("schedule"),
            warmupSteps = json.getInt("warmup-steps"),
            seed = json.getLong("seed"),
            order = json.getString("order"),
            arithmetic = json.optString("arithmetic", "float32"), // runs from before there was a choice
            saveEvery = if (json.has("save-every")) json.getInt("save-every") else null,
            threads = json.optInt("threads"),
            maxGradNorm = json.optDouble("max-grad-norm", 0.0),
            evalEvery = json.optInt("eval-every"),
            patience = json.optInt("patience"),
            keep = json.optString("keep", "last"),
            keepCheckpoints = json.optInt("keep-checkpoints"),
            trace = json.optString("trace", "steps"),
        )
    }
}
