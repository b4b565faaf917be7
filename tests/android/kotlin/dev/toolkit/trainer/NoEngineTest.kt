package dev.toolkit.trainer

import android.content.Intent
import android.view.View
import android.widget.Button
import android.widget.ImageButton
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.looks
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.service.AutomationService
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.SettingsActivity
import dev.toolkit.trainer.ui.TextActivity
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
import java.io.File

/** An APK without native libraries; the build runs this class in a process that finds none. */
@RunWith(RobolectricTestRunner::class)
class NoEngineTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp

    @Before
    fun deploy() {
        assertFalse("this process must not find libtoolkit_jni.so", Engine.available)
        app = Fixtures.deploy(temporary)
        Fixtures.create(app, "diary")
    }

    @Test
    fun `every screen opens and says that this build cannot train`() {
        val page = RunActivity.intent(app, "diary")
        for (look in looks) {
            Pictures.apply(look)
            Pictures.take(look, "no-engine-runs", MainActivity::class.java, null) { text(it, "This build cannot train") && text(it, "diary") }
            Pictures.take(look, "no-engine-run", RunActivity::class.java, page) { text(it, "This build cannot train") }
            Pictures.take(look, "no-engine-new-run", NewRunActivity::class.java, null) { text(it, "This build cannot train") }
            Pictures.take(look, "no-engine-settings", SettingsActivity::class.java, null) { text(it, "no native engine") }
        }
    }

    @Test
    fun `nothing can be started, and text can still become data`() {
        val first = Robolectric.buildActivity(MainActivity::class.java).setup().get()
        await("the card") { text(first, "diary") }
        assertFalse(first.requireViewById<ImageButton>(R.id.action).isEnabled)
        val form = Robolectric.buildActivity(NewRunActivity::class.java).setup().get()
        await("the form") { text(form, "rows") }
        assertFalse(form.requireViewById<View>(R.id.start).isEnabled)
        val screen = Robolectric.buildActivity(TextActivity::class.java).setup().get()
        await("the models") { text(screen, "words") }
        assertTrue(screen.requireViewById<Button>(R.id.make).isEnabled)
    }

    @Test
    fun `a start from elsewhere is refused, the run is left as it is`() {
        val service = Robolectric.buildService(TrainingService::class.java).create()
        service.get().onStartCommand(TrainingService.intent(app, TrainingService.START, "diary"), 0, 1)
        Fixtures.settle(app)
        Fixtures.idle()
        assertNull(app.controller.active)
        assertEquals(RunState.PAUSED, app.runs.require("diary").state)
        val intent = Intent(AutomationService.TRAIN).putExtra("run", "diary").putExtra("resume", "true")
        Robolectric.buildService(AutomationService::class.java, intent).create().startCommand(0, 1)
        Fixtures.settle(app)
        assertEquals("This build has no training engine.", JSONObject(AutomationService.lastAnswer!!).getString("error"))
        assertTrue(File(app.runs.require("diary").folder, "run.json").isFile)
        service.destroy()
    }
}
