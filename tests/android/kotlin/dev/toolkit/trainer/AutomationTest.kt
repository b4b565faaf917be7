package dev.toolkit.trainer

import android.content.Intent
import android.content.pm.PackageManager
import android.content.pm.ServiceInfo
import dev.toolkit.trainer.service.AutomationService
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.BUNDLE_FORMAT_VERSION
import dev.toolkit.trainer.store.RunState
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import java.io.File

/** What comes from outside: intents of the shell, damaged bundles. One clear message each, nothing lost. */
@RunWith(RobolectricTestRunner::class)
class AutomationTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp

    @Before
    fun deploy() {
        app = Fixtures.deploy(temporary)
    }

    private fun send(vararg extras: Pair<String, String>, action: String = AutomationService.TRAIN): JSONObject {
        val intent = Intent(action).putExtra("request", "7")
        for ((name, value) in extras) intent.putExtra(name, value)
        Robolectric.buildService(AutomationService::class.java, intent).create().startCommand(0, 1)
        Fixtures.settle(app)
        return JSONObject(AutomationService.lastAnswer!!)
    }

    private fun train(vararg extras: Pair<String, String>): JSONObject =
        send(*(mapOf("run" to "a", "bundle" to "tiny", "data" to "rows", "steps" to "3") + extras).toList().toTypedArray())

    private fun refused(words: String, answer: JSONObject) {
        assertFalse(answer.toString(), answer.getBoolean("ok"))
        assertTrue(answer.toString(), words in answer.getString("error"))
        assertNull("nothing may be started", shadowOf(app).nextStartedService)
    }

    @Test
    fun `starts a run with the given settings`() {
        val answer = train("lr" to "2e-3", "seed" to "5", "optimizer" to "sgd", "threads" to "1")
        assertTrue(answer.toString(), answer.getBoolean("ok"))
        assertEquals("7", answer.getString("request"))
        val started = shadowOf(app).nextStartedService
        assertEquals(TrainingService.START, started.action)
        assertEquals("a", started.getStringExtra(TrainingService.RUN))
        val settings = app.runs.require("a").settings
        assertEquals(2e-3, settings.learningRate, 0.0)
        assertEquals("sgd", settings.optimizer)
        assertEquals(5, settings.seed)
        refused("already", train())
        assertTrue(send("run" to "a", "resume" to "true").getBoolean("ok"))
    }

    /** Whoever publishes the app has to justify each of that type. */
    @Test
    fun `of all services only the one that trains is of a special use`() {
        val all = app.packageManager.getPackageInfo(app.packageName, PackageManager.GET_SERVICES).services!!
        val special = all.filter { it.foregroundServiceType and ServiceInfo.FOREGROUND_SERVICE_TYPE_SPECIAL_USE != 0 }
        assertEquals(listOf(TrainingService::class.java.name), special.map { it.name })
        val entry = all.single { it.name == AutomationService::class.java.name }
        assertEquals(ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC, entry.foregroundServiceType)
        assertEquals(android.Manifest.permission.DUMP, entry.permission)
    }

    /** A number of its own would take the engine's limit of a gigabyte an hour away. */
    @Test
    fun `when to save is left to the engine unless it is asked for`() {
        assertTrue(train().getBoolean("ok"))
        assertFalse("save-every" in app.runs.require("a").settings.options())
        assertTrue(train("run" to "b", "save-every" to "7").getBoolean("ok"))
        assertEquals("7", app.runs.require("b").settings.options()["save-every"])
        repeat(2) { assertEquals(TrainingService.START, shadowOf(app).nextStartedService.action) }
        refused("save-every is no number", train("run" to "c", "save-every" to "often"))
    }

    @Test
    fun `names never lead out of their folders`() {
        for (name in listOf("../../etc", "a/b", "..", ".", "", "/data/local/tmp/x", "a\u0000b", "a".repeat(65), "a.part")) {
            refused("cannot name a", train("run" to name))
            refused("cannot name a", train("bundle" to name))
            refused("cannot name a", train("data" to name))
        }
        assertTrue(app.runs.list().isEmpty())
        assertTrue(app.folders.runs.listFiles().orEmpty().isEmpty())
    }

    @Test
    fun `a link that leads out of the bundles is no bundle`() {
        val outside = temporary.newFolder("outside")
        File(Fixtures.deployed(), "bundles/tiny").copyRecursively(outside, overwrite = true)
        java.nio.file.Files.createSymbolicLink(File(Fixtures.deployed(), "bundles/link").toPath(), outside.toPath())
        refused("no bundle", train("bundle" to "link"))
    }

    @Test
    fun `values that the engine would refuse are refused before anything is made`() {
        refused("steps is missing", send("run" to "a", "bundle" to "tiny", "data" to "rows"))
        for ((name, value) in listOf("steps" to "0", "steps" to "x", "lr" to "NaN", "lr" to "-1", "optimizer" to "adam", "seed" to "-1", "threads" to "999")) {
            val answer = train(name to value)
            assertFalse("$name=$value: $answer", answer.getBoolean("ok"))
        }
        refused("too long", train("run" to "a".repeat(1000)))
        refused("not known", send(action = "dev.toolkit.trainer.automation.FORMAT"))
        refused("No run is active", send(action = AutomationService.STOP))
        refused("no run “gone”", send("run" to "gone", "resume" to "true"))
        assertTrue(app.runs.list().isEmpty())
    }

    @Test
    fun `missing, damaged and foreign bundles and data are named`() {
        val bundle = File(Fixtures.deployed(), "bundles/tiny")
        refused("no bundle “gone”", train("bundle" to "gone"))
        refused("no data set “gone”", train("data" to "gone"))

        val manifest = File(bundle, "manifest.json")
        val whole = manifest.readText()
        manifest.writeText(JSONObject(whole).put("format_version", 99).toString())
        refused("format version 99, this app reads $BUNDLE_FORMAT_VERSION", train())
        manifest.writeText(whole.take(100))
        refused("cannot be read", train())
        val escaping = JSONObject(whole).also { it.getJSONObject("files").put("../../x", JSONObject("""{"bytes": 1}""")) }
        manifest.writeText(escaping.toString())
        refused("outside", train())
        val impossible = JSONObject(whole).also { it.getJSONObject("files").put("a\u0000b", JSONObject("""{"bytes": 1}""")) }
        manifest.writeText(impossible.toString())
        refused("outside", train())
        manifest.writeText(JSONObject(whole).put("seq_lens", org.json.JSONArray()).toString())
        refused("cannot be read", train())
        manifest.writeText(whole)
        File(bundle, "base.ptd").appendBytes(byteArrayOf(0))
        refused("base.ptd has", train())
        File(bundle, "base.ptd").delete()
        refused("base.ptd is missing", train())
        manifest.delete()
        refused("not complete", train())
    }

    @Test
    fun `a bundle that the engine refuses fails the run with the engine's words`() {
        val program = File(Fixtures.deployed(), "bundles/tiny/programs.pte")
        program.writeBytes(program.readBytes().also { it.fill(0x55, 8, 200) })
        assertTrue(train().getBoolean("ok"))
        app.controller.start("a")
        assertTrue(app.controller.join(20_000))
        val run = app.runs.require("a")
        assertEquals(RunState.FAILED, run.state)
        assertTrue(run.reason, "programs.pte" in run.reason)
    }
}
