package dev.toolkit.trainer

import android.app.ActivityManager
import android.content.Intent
import android.os.BatteryManager
import dev.toolkit.trainer.policy.PolicySettings
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.store.AppFolders
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.store.RunState
import org.json.JSONObject
import org.junit.rules.TemporaryFolder
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import java.io.File
import java.time.Duration

/** What tools/android/fixtures.py made, and a phone with it on. */
object Fixtures {
    val folder = File(System.getProperty("toolkit.fixtures")!!)

    /** The settings that the reference run of the command line had. */
    val reference = RunSettings(steps = 8, learningRate = 1e-3, gradientAccumulation = 2, seed = 3, saveEvery = 3, threads = 1)

    /** Puts bundles and data where `toolkit deploy` puts them, and the phone on its charger. */
    fun deploy(temporary: TemporaryFolder, bundles: List<String> = listOf("tiny", "words")): TrainerApp {
        val deployed = temporary.newFolder("toolkit")
        for (name in bundles) File(folder, "bundles/$name").copyRecursively(File(deployed, "bundles/$name"))
        File(folder, "data/rows").copyRecursively(File(deployed, "data/rows"))
        AppFolders.deployedOverride = deployed
        power(plugged = true, level = 80)
        val app = RuntimeEnvironment.getApplication() as TrainerApp
        // A machine that tests run on is short of memory at times; the tests of the policy set their own figures.
        app.policy.write(PolicySettings(minimumFreeMb = 0))
        return app
    }

    fun deployed(): File = AppFolders.deployedOverride!!

    fun power(plugged: Boolean, level: Int, celsius: Float = 31.4f) {
        val intent = Intent(Intent.ACTION_BATTERY_CHANGED).putExtra(BatteryManager.EXTRA_PLUGGED, if (plugged) 1 else 0)
            .putExtra(BatteryManager.EXTRA_LEVEL, level).putExtra(BatteryManager.EXTRA_SCALE, 100)
            .putExtra(BatteryManager.EXTRA_TEMPERATURE, (10 * celsius).toInt())
        @Suppress("DEPRECATION")
        RuntimeEnvironment.getApplication().sendStickyBroadcast(intent)
        idle()
    }

    /** So much memory is free, of eight gigabytes. */
    fun memory(app: TrainerApp, mb: Long) = shadowOf(app.getSystemService(ActivityManager::class.java)).setMemoryInfo(
        ActivityManager.MemoryInfo().apply {
            availMem = mb * 1_000_000
            totalMem = 8_000_000_000
        },
    )

    fun create(app: TrainerApp, name: String, settings: RunSettings = reference): Run =
        app.runs.create(name, app.bundles.require("tiny"), app.data.require("rows"), settings)

    /** A run "long" that trains on where little memory is free. */
    fun trainForLong(app: TrainerApp, freeMb: Long) {
        memory(app, freeMb)
        create(app, "long", reference.copy(steps = 100_000))
        app.controller.start("long")
        await("a step") { app.controller.active?.doing == Doing.TRAINING }
    }

    /** Lets the main thread do what is waiting for it. */
    fun idle() = shadowOf(android.os.Looper.getMainLooper()).idle()

    /** Lets a service do what it was told, and the main thread what comes of it. */
    fun settle(app: TrainerApp) {
        app.background.await()
        idle()
    }

    fun advance(milliseconds: Long) = shadowOf(android.os.Looper.getMainLooper()).idleFor(Duration.ofMillis(milliseconds))

    fun turn(landscape: Boolean) = RuntimeEnvironment.setQualifiers(if (landscape) "+land" else "+port")

    /** Waits until something holds, with the main thread at work meanwhile. */
    fun await(what: String, seconds: Int = 60, condition: () -> Boolean) {
        val end = System.nanoTime() + seconds * 1_000_000_000L
        while (!condition()) {
            check(System.nanoTime() < end) { "waited in vain: $what" }
            Thread.sleep(5)
            advance(50)
        }
        advance(1000)
    }

    /** The engine's options of the reference run, into another folder and perhaps of another length. */
    fun options(out: File, steps: Int = reference.steps): Map<String, String> = reference.options() + mapOf(
        "bundle" to File(folder, "bundles/tiny").path,
        "data" to File(folder, "data/rows/train.ptd").path,
        "out" to out.path,
        "threads" to "1",
        "steps" to steps.toString(),
    )

    /** A finished run of the model with a tokenizer, trained by the command line. */
    fun talker(app: TrainerApp, name: String = "talks"): Run {
        val run = app.runs.create(name, app.bundles.require("words"), app.data.require("rows"), reference)
        for (file in listOf("adapter_model.safetensors", "adapter_config.json")) File(folder, "replies/$file").copyTo(File(run.folder, file))
        return app.runs.save(run.copy(state = RunState.COMPLETED, step = 30))
    }

    /** The prompt, and what the command line has the model write before and after: prompt, before, after. */
    fun replies() = JSONObject(File(folder, "replies/replies.json").readText())

    fun adapter(run: Run): ByteArray = run.adapter.readBytes()

    fun referenceAdapter(): ByteArray = File(folder, "reference/adapter_model.safetensors").readBytes()
}
